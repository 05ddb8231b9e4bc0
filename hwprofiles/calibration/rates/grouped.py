"""Grouped GEMMs of experts, as one launch and as a loop of launches: BF16 in three passes, FP8 by rows forward."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch

from hwprofiles.calibration.measuring import random_bf16
from hwprofiles.calibration.rates.case import Call, RateCase
from hwprofiles.calibration.rates.dense import octets

WEIGHTS = ((4096, 7168), (7168, 2048), (4096, 1536))
"""(n, k) of an expert's layer: DeepSeek-V3's two, Qwen3-235B-A22B's second."""
LOOPED = WEIGHTS[:2]
"""Those whose even loads are also timed as a loop of launches."""
LOADS = (
    (2, 8192),
    (4, 2048),
    (4, 8192),
    (8, 1024),
    (8, 4096),
    (16, 512),
    (16, 2048),
    (32, 256),
    (32, 1024),
    (64, 64),
    (64, 512),
)
"""Experts, mean rows of each."""
UNEVEN = ((4, 8192), (8, 1024), (8, 4096), (32, 256), (32, 1024))
"""Of LOADS those that are also timed with loads that fall as 1 / (1 + i / 2)."""
SMALL_WEIGHTS, SMALL_LOADS = ((128, 64),), ((4, 48),)
ALIGNED = 16
"""Rows of an expert are a multiple of it: FP8 operands of a wgrad must be."""
MAX_LOOPED = 32
"""Experts up to which the loop is timed: longer ones are launches and nothing else."""


def cases(device: Any, *, quick: bool) -> Iterator[RateCase]:
    """Every weight with every load; even, and some uneven."""
    weights, loads, uneven = (SMALL_WEIGHTS, SMALL_LOADS, SMALL_LOADS) if quick else (WEIGHTS, LOADS, UNEVEN)
    for n, k in weights:
        for groups, rows in loads:
            looped = (n, k) in LOOPED and groups <= MAX_LOOPED
            yield from _of(device, n, k, (rows,) * groups, looped=looped or quick)
            if (groups, rows) in uneven:
                yield from _of(device, n, k, uneven_loads(groups, rows), looped=quick)


def uneven_loads(groups: int, mean: int) -> tuple[int, ...]:
    """Rows of each expert, their sum groups * mean, falling as 1 / (1 + i / 2), multiples of ALIGNED."""
    total = groups * mean
    weights = [1.0 / (1.0 + idx / 2.0) for idx in range(groups)]
    counts = [int(total * weight / sum(weights)) // ALIGNED * ALIGNED for weight in weights]
    return (counts[0] + total - sum(counts), *counts[1:])


def _of(device: Any, n: int, k: int, counts: tuple[int, ...], *, looped: bool) -> Iterator[RateCase]:
    made = {"fprop": _forward, "dgrad": _dgrad, "wgrad": _wgrad}
    for variant, make in made.items():
        yield _case(variant, "bf16", "grouped", n, k, counts, partial(make, device, n, k, counts, False))
        if looped:
            yield _case(variant, "bf16", "loop", n, k, counts, partial(make, device, n, k, counts, True))
    yield _case("fprop", "fp8-row", "grouped", n, k, counts, partial(_forward_fp8, device, n, k, counts))


def _case(variant: str, dtype: str, name: str, n: int, k: int, counts: tuple[int, ...], make: Any) -> RateCase:
    rows, groups = sum(counts), len(counts)
    size = {"fprop": (rows, n, k), "dgrad": (rows, k, n), "wgrad": (n, k, rows)}[variant]
    cells = {
        "part": "grouped", "op": "grouped_gemm", "variant": variant, "dtype": dtype, "library": name,
        **dict(zip("mnk", size, strict=True)), "groups": groups, "loads": " ".join(map(str, counts)),
        "flop": 2.0 * rows * n * k,
    }  # fmt: skip
    return RateCase(cells, make, 2.0 * (rows * (n + k) + groups * n * k), groups if name == "loop" else 3)


def _ends(counts: tuple[int, ...], device: Any) -> Any:
    return torch.tensor(counts).cumsum(0).to(torch.int32).to(device)


def _parts(counts: tuple[int, ...]) -> list[slice]:
    ends = torch.tensor(counts).cumsum(0).tolist()
    return [slice(end - count, end) for count, end in zip(counts, ends, strict=True)]


def _by_rows(left: Any, weights: Any, counts: tuple[int, ...], looped: bool) -> Call:
    """left (R, a) times its expert's (a, b) of weights (E, a, b)."""
    if not looped:
        return partial(torch._grouped_mm, left, weights, offs=_ends(counts, left.device), out_dtype=torch.bfloat16)
    out = torch.empty(left.shape[0], weights.shape[2], device=left.device, dtype=torch.bfloat16)
    calls = [partial(torch.mm, left[part], weights[idx], out=out[part]) for idx, part in enumerate(_parts(counts))]
    return partial(_all, calls)


def _all(calls: Sequence[Call]) -> None:
    for call in calls:
        call()


def _forward(device: Any, n: int, k: int, counts: tuple[int, ...], looped: bool) -> Call:
    weights = random_bf16(device, len(counts), n, k).transpose(1, 2)
    return _by_rows(random_bf16(device, sum(counts), k), weights, counts, looped)


def _dgrad(device: Any, n: int, k: int, counts: tuple[int, ...], looped: bool) -> Call:
    return _by_rows(random_bf16(device, sum(counts), n), random_bf16(device, len(counts), n, k), counts, looped)


def _wgrad(device: Any, n: int, k: int, counts: tuple[int, ...], looped: bool) -> Call:
    """dw (E, n, k) in BF16 = dy (R, n).T @ x (R, k) of each expert; nothing is added to."""
    dy, x = random_bf16(device, sum(counts), n), random_bf16(device, sum(counts), k)
    if not looped:
        return partial(torch._grouped_mm, dy.t(), x, offs=_ends(counts, device), out_dtype=torch.bfloat16)
    out = torch.empty(len(counts), n, k, device=device, dtype=torch.bfloat16)
    calls = [partial(torch.mm, dy[part].t(), x[part], out=out[idx]) for idx, part in enumerate(_parts(counts))]
    return partial(_all, calls)


def _forward_fp8(device: Any, n: int, k: int, counts: tuple[int, ...]) -> Call:
    rows = sum(counts)
    x, weights = octets(device, rows, k), octets(device, len(counts), n, k).transpose(1, 2)
    of_x, of_w = torch.rand(rows, device=device) + 0.5, torch.rand(len(counts), n, device=device) + 0.5
    ends = _ends(counts, device)
    return partial(torch._scaled_grouped_mm, x, weights, of_x, of_w, ends, out_dtype=torch.bfloat16)
