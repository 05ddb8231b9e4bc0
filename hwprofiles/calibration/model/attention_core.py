"""Causal attention behind the projections: softmax(scale q k^T) v. On a GPU torch's fused kernels, elsewhere `blockwise`.

All keep q, k, v, the output and a log-sum-exp a query and head. `attend_reference` is the plain form that both are held to.
"""

from __future__ import annotations

import warnings
from functools import lru_cache
from typing import Final, Literal

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.calibration.model.blockwise import blockwise
from hwprofiles.problem import Problem

Library = Literal["cudnn", "flash"]
LIBRARIES: Final[tuple[Library, ...]] = ("cudnn", "flash")
"""In order of speed: on an H200 with torch 2.11 cuDNN's causal forward is twice as fast (4,096 tokens, heads of 64 to 192)."""
_BACKENDS: Final = {"cudnn": SDPBackend.CUDNN_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION}


def attend(
    q: Tensor, k: Tensor, v: Tensor, *, scale: float, window: int | None = None, sinks: Tensor | None = None,
    library: Library | None = None,
) -> Tensor:  # fmt: skip
    """Heads of values, (b, s, n, dv), in q's format.

    q: (b, s, n, dqk); k: (b, s, nkv, dqk); v: (b, s, nkv, dv): a key and value head serves n/nkv query heads beside one
    another. window: keys that a query attends to, itself included. sinks: (n,) logits without a value, one a head, in its
    softmax. Windows, sinks and FP32 take `blockwise` on every device: torch's fused kernels have none of them.
    library: whose kernel on a GPU; None: the first of LIBRARIES that can.
    Raises CalibrationError: sizes or formats that do not fit, a library that cannot.
    """
    _check(q, k, v, sinks)
    is_cut = window is not None and window < q.shape[1]
    if not q.is_cuda or is_cut or sinks is not None or q.dtype not in (torch.bfloat16, torch.float16):
        if library is not None:
            told = f"{library!r} has no kernel for {q.dtype} on {q.device}, window {window}, sinks: {sinks is not None}"
            raise CalibrationError([Problem("", "attention library", f"{told}; leave it out")])
        return blockwise(q, k, v, sinks, scale, window)
    return _fused(
        q, k, v, scale, library or _library(q.device, q.dtype, q.shape[2] // k.shape[2], q.shape[-1], v.shape[-1])
    )


def _fused(q: Tensor, k: Tensor, v: Tensor, scale: float, library: Library) -> Tensor:
    """By the library's kernel; flash takes equal head sizes: values get zeros behind them."""
    padding = q.shape[-1] - v.shape[-1] if library == "flash" else 0
    values = functional.pad(v, (0, padding)) if padding else v
    with sdpa_kernel(_BACKENDS[library]):
        out = functional.scaled_dot_product_attention(
            q.transpose(1, 2), k.transpose(1, 2), values.transpose(1, 2), is_causal=True, scale=scale,
            enable_gqa=q.shape[2] != k.shape[2],
        ).transpose(1, 2)  # fmt: skip
    return out[..., : v.shape[-1]].contiguous() if padding else out


@lru_cache(maxsize=64)
def _library(device: torch.device, dtype: torch.dtype, served: int, dim_qk: int, dim_v: int) -> Library:
    """The first library that gives values and gradients for head sizes and `served` query heads a key head."""
    for library in LIBRARIES:
        try:
            if _is_right(library, device, dtype, served, dim_qk, dim_v):
                return library
        except RuntimeError:  # torch: no available kernel
            continue
    told = f"no fused kernel of {', '.join(LIBRARIES)} takes {dtype}, heads of {dim_qk} and {dim_v} on {device}"
    raise CalibrationError([Problem("", "attention", told)])


def _is_right(library: Library, device: torch.device, dtype: torch.dtype, served: int, dim_qk: int, dim_v: int) -> bool:
    """Whether output and gradients are those of `blockwise` on drawn numbers, to 2 %."""
    generator = torch.Generator().manual_seed(0)
    sizes = (2 * served, dim_qk), (2, dim_qk), (2, dim_v), (2 * served, dim_v)
    drawn = [torch.randn(1, 256, *size, generator=generator).to(device, dtype) for size in sizes]
    found = []
    # Own hooks, so that a checkpoint around the first call does not see tensors that its second run has not.
    with warnings.catch_warnings(), torch.enable_grad(), saved_tensors_hooks(_same, _same):
        warnings.simplefilter("ignore")  # torch tells why a kernel cannot
        for is_fused in (True, False):
            q, k, v = (tensor.clone().requires_grad_() for tensor in drawn[:3])
            scale = dim_qk**-0.5
            out = _fused(q, k, v, scale, library) if is_fused else blockwise(q, k, v, None, scale, None)
            found.append([out.detach(), *torch.autograd.grad(out, (q, k, v), drawn[3])])
    return all(bool((mine - other).norm() < 0.02 * other.norm()) for mine, other in zip(*found, strict=True))


def _same(tensor: Tensor) -> Tensor:
    return tensor


def attend_reference(
    q: Tensor, k: Tensor, v: Tensor, *, scale: float, window: int | None = None, sinks: Tensor | None = None
) -> Tensor:
    """The same with all scores in memory at once, in the inputs' format. Shapes as in `attend`."""
    k, v = (tensor.repeat_interleave(q.shape[2] // k.shape[2], dim=2) for tensor in (k, v))
    scores = scale * torch.einsum("bqnd,bknd->bnqk", q, k)
    behind = torch.arange(q.shape[1], device=q.device)[:, None] - torch.arange(k.shape[1], device=q.device)
    hidden = (behind < 0) if window is None else (behind < 0) | (behind >= window)
    scores = scores.masked_fill(hidden, float("-inf"))
    if sinks is not None:
        column = sinks.to(scores.dtype)[None, :, None, None].expand(*scores.shape[:3], 1)
        scores = torch.cat((scores, column), dim=-1)
    return torch.einsum("bnqk,bknd->bqnd", scores.softmax(-1)[..., : k.shape[1]], v)


def _check(q: Tensor, k: Tensor, v: Tensor, sinks: Tensor | None) -> None:
    shapes = {"q": tuple(q.shape), "k": tuple(k.shape), "v": tuple(v.shape)}
    told = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
    if any(len(shape) != 4 for shape in shapes.values()):
        raise CalibrationError([Problem("", "attention", f"{told}: each is (sequences, tokens, heads, head size)")])
    if k.shape[:3] != v.shape[:3] or k.shape[-1] != q.shape[-1] or k.shape[:2] != q.shape[:2]:
        raise CalibrationError([Problem("", "attention", f"{told} do not fit: tokens alike, q and k one head size")])
    if q.shape[2] % k.shape[2]:
        raise CalibrationError(
            [Problem("", "attention", f"{q.shape[2]} query heads are not divided by {k.shape[2]} heads")]
        )
    if len({q.dtype, k.dtype, v.dtype}) > 1:
        raise CalibrationError([Problem("", "attention", f"q, k, v are {q.dtype}, {k.dtype}, {v.dtype}; one format")])
    if sinks is not None and tuple(sinks.shape) != (q.shape[2],):
        raise CalibrationError(
            [Problem("", "sinks", f"has shape {tuple(sinks.shape)}; one for each of {q.shape[2]} heads")]
        )
