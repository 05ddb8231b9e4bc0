"""Kernels bound by memory at DeepSeek-V3's sizes: what each reads and writes, and a copy of as many bytes beside it.

h = 7168 of hidden vectors, f = 2048 of an expert; rows 8192 of a micro-batch, 32768 of an expert-parallel rank's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor

from hwprofiles.calibration.kernels import permuting, streams, swiglu
from hwprofiles.calibration.measuring import random_bf16

Call = Callable[[], Any]
Make = Callable[[torch.device], tuple[dict[str, Call], float]]
IN_FP8: Final = 1.0 + 4.0 / 128
"""Bytes of a number in FP8 with an FP32 scale for each 128."""
HIDDEN, EXPERT = 7168, 2048
ROWS: Final = (8192, 32_768)
TOP_K, EXPERTS, HERE = 8, 256, 32
"""Experts of a token, of a layer, and of a rank that has some of them."""

Case = tuple[str, str, int, int, Make]
"""Name, kind, rows, width, what makes the calls."""


def cases(*, small: bool) -> Iterator[Case]:
    """small: for a rehearsal."""
    for rows in (128,) if small else ROWS:
        yield from _of_rows(rows, 256 if small else HIDDEN, 128 if small else EXPERT)
    tokens, width = (16, 256) if small else (ROWS[0], HIDDEN)
    for name, num_here in (("all experts here", EXPERTS), ("an eighth of the experts here", HERE)):
        yield from _of_tokens(name, num_here, tokens, width)
    e, n, k = (1, 128, 256) if small else (8, 2 * EXPERT, HIDDEN)
    yield f"quantise weights, and transposed, {e} of", "transpose", n, k, partial(_weights, e, n, k)


def _of_rows(rows: int, width: int, expert: int) -> Iterator[Case]:
    yield "quantise", "stream", rows, width, partial(_quantise, rows, width)
    yield "SwiGLU to FP8", "stream", rows, expert, partial(_swiglu, rows, expert)
    yield "SwiGLU backward", "stream", rows, expert, partial(_swiglu_backward, rows, expert)
    yield "quantise transposed", "transpose", rows, width, partial(_columns, rows, width, False)
    yield "quantise transposed of FP8", "transpose", rows, width, partial(_columns, rows, width, True)
    yield "quantise both ways", "transpose", rows, width, partial(_both, rows, width)
    yield "SwiGLU backward to FP8 both ways", "transpose", rows, expert, partial(_swiglu_both, rows, expert)


def _of_tokens(name: str, num_here: int, tokens: int, width: int) -> Iterator[Case]:
    for what, make in (
        ("permute to FP8", _permute_quantise), ("permute FP8", _permute_fp8), ("permute BF16", _permute),
        ("weighted sum by token", _sums), ("its backward", _sums_backward),
    ):  # fmt: skip
        yield f"{what}, {name}", "permute", tokens, width, partial(make, num_here, tokens, width)


def _beside(device: torch.device, size: float, calls: dict[str, Call]) -> tuple[dict[str, Call], float]:
    source = random_bf16(device, int(size) // 4)
    return calls | {"copy": partial(torch.empty_like(source).copy_, source)}, size


def _quantise(rows: int, width: int, device: torch.device) -> tuple[dict[str, Call], float]:
    x = random_bf16(device, rows, width)
    return _beside(device, rows * width * (2 + IN_FP8), {"moesim": partial(streams.quantise_rows, x)})


def _columns(rows: int, width: int, is_fp8: bool, device: torch.device) -> tuple[dict[str, Call], float]:
    x, sources = random_bf16(device, rows, width), torch.arange(rows, device=device)
    given, scales = streams.quantise_rows(x) if is_fp8 else (x, None)
    call = partial(streams.quantise_columns, given, scales, width, sources, 16)
    return _beside(device, rows * width * ((IN_FP8 if is_fp8 else 2) + IN_FP8), {"moesim": call})


def _both(rows: int, width: int, device: torch.device) -> tuple[dict[str, Call], float]:
    call = partial(streams.quantise_both, random_bf16(device, rows, width), torch.arange(rows, device=device))
    return _beside(device, rows * width * (2 + 2 * IN_FP8), {"moesim": call})


def _weights(e: int, n: int, k: int, device: torch.device) -> tuple[dict[str, Call], float]:
    call = partial(streams.quantise_blocks, torch.randn(e, n, k, device=device))
    return _beside(device, e * n * k * (4.0 + 2.0), {"moesim": call})


def _swiglu(rows: int, width: int, device: torch.device) -> tuple[dict[str, Call], float]:
    call = partial(swiglu.swiglu_quantise, random_bf16(device, rows, 2 * width), torch.rand(rows, device=device))
    return _beside(device, rows * width * (4 + IN_FP8), {"moesim": call})


def _gradients(rows: int, width: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Gate beside up, the product's gradient, the rows' weights."""
    return random_bf16(device, rows, 2 * width), random_bf16(device, rows, width), torch.rand(rows, device=device)


def _swiglu_backward(rows: int, width: int, device: torch.device) -> tuple[dict[str, Call], float]:
    call = partial(swiglu.swiglu_backward, *_gradients(rows, width, device))
    return _beside(device, rows * width * (6.0 + 4.0), {"moesim": call})


def _swiglu_both(rows: int, width: int, device: torch.device) -> tuple[dict[str, Call], float]:
    x, grad, weights = _gradients(rows, width, device)
    call = partial(swiglu.swiglu_backward_quantise, x, grad, torch.arange(rows, device=device), weights)
    return _beside(device, rows * width * (6 + 4 * IN_FP8), {"moesim": call})


def places(num_here: int, tokens: int, device: torch.device) -> tuple[Tensor, int, int]:
    """Of tokens whose experts are drawn evenly: their rows' places, -1 on no expert here; rows; tokens that have one."""
    experts = torch.rand(tokens, EXPERTS, device=device).topk(TOP_K).indices.flatten()
    order = experts.argsort(stable=True)
    num_rows = int((experts < num_here).sum())
    place = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=device))
    place = torch.where(place < num_rows, place, -1).view(tokens, TOP_K)
    return place, num_rows, int((place >= 0).any(1).sum())


def _permute_quantise(num_here: int, tokens: int, width: int, device: torch.device) -> tuple[dict[str, Call], float]:
    place, num_rows, num_read = places(num_here, tokens, device)
    call = partial(permuting.permute_quantise, random_bf16(device, tokens, width), place, num_rows)
    return _beside(device, width * (2.0 * num_read + IN_FP8 * num_rows), {"moesim": call})


def _permute_fp8(num_here: int, tokens: int, width: int, device: torch.device) -> tuple[dict[str, Call], float]:
    place, num_rows, num_read = places(num_here, tokens, device)
    given = streams.quantise_rows(random_bf16(device, tokens, width))
    call = partial(permuting.permute_quantised, *given, place, num_rows)
    return _beside(device, width * IN_FP8 * (num_read + num_rows), {"moesim": call})


def _permute(num_here: int, tokens: int, width: int, device: torch.device) -> tuple[dict[str, Call], float]:
    place, num_rows, num_read = places(num_here, tokens, device)
    call = partial(permuting.permute, random_bf16(device, tokens, width), place, num_rows)
    return _beside(device, width * 2.0 * (num_read + num_rows), {"moesim": call})


def _sums(num_here: int, tokens: int, width: int, device: torch.device) -> tuple[dict[str, Call], float]:
    place, num_rows, _ = places(num_here, tokens, device)
    weights = torch.rand(tokens, TOP_K, device=device)
    call = partial(permuting.unpermute, random_bf16(device, num_rows, width), place, weights)
    return _beside(device, width * 2.0 * (num_rows + tokens), {"moesim": call})


def _sums_backward(num_here: int, tokens: int, width: int, device: torch.device) -> tuple[dict[str, Call], float]:
    place, num_rows, num_read = places(num_here, tokens, device)
    weights, grad = torch.rand(tokens, TOP_K, device=device), random_bf16(device, tokens, width)
    call = partial(permuting.unpermute_backward, grad, random_bf16(device, num_rows, width), place, weights)
    return _beside(device, width * 2.0 * (num_read + 2 * num_rows), {"moesim": call})
