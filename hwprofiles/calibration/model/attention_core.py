"""Causal attention behind the projections: softmax(scale q k^T) v. On a GPU torch's fused kernels, elsewhere `blockwise`.

All keep q, k, v, the output and a log-sum-exp a query and head. `attend_reference` is the plain form that both are held to.
"""

from __future__ import annotations

import warnings
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.calibration.model.blockwise import blockwise
from hwprofiles.problem import Problem


def attend(
    q: Tensor, k: Tensor, v: Tensor, *, scale: float, window: int | None = None, sinks: Tensor | None = None
) -> Tensor:
    """Heads of values, (b, s, n, dv), in q's format.

    q: (b, s, n, dqk); k: (b, s, nkv, dqk); v: (b, s, nkv, dv): a key and value head serves n/nkv query heads beside one
    another. window: keys that a query attends to, itself included. sinks: (n,) logits without a value, one a head, in its
    softmax. Windows, sinks and FP32 take `blockwise` on every device: torch's fused kernels have none of them.
    """
    _check(q, k, v, sinks)
    is_cut = window is not None and window < q.shape[1]
    if not q.is_cuda or is_cut or sinks is not None or q.dtype not in (torch.bfloat16, torch.float16):
        return blockwise(q, k, v, sinks, scale, window)
    return _fused(q, k, v, scale)


def _fused(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    backend, padding = _backend(q.device, q.dtype, q.shape[-1], v.shape[-1])
    if padding:
        v = functional.pad(v, (0, padding))
    with sdpa_kernel(backend):
        out = functional.scaled_dot_product_attention(
            q.transpose(1, 2),
            k.transpose(1, 2),
            v.transpose(1, 2),
            is_causal=True,
            scale=scale,
            enable_gqa=q.shape[2] != k.shape[2],
        )
    out = out.transpose(1, 2)
    return out[..., : v.shape[-1] - padding].contiguous() if padding else out


@lru_cache(maxsize=64)
def _backend(device: torch.device, dtype: torch.dtype, dim_qk: int, dim_v: int) -> tuple[SDPBackend, int]:
    """The kernel for head sizes, and zeros that values are padded by: flash takes equal sizes, cuDNN on some devices others."""
    if dim_qk == dim_v:
        return SDPBackend.FLASH_ATTENTION, 0
    try:
        with warnings.catch_warnings(), torch.enable_grad():
            warnings.simplefilter("ignore")
            q, k, v = (
                torch.ones(1, 2, 128, dim, device=device, dtype=dtype, requires_grad=True)
                for dim in (dim_qk, dim_qk, dim_v)
            )
            with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
                functional.scaled_dot_product_attention(q, k, v, is_causal=True).sum().backward()
        torch.cuda.synchronize(device)
    except RuntimeError:
        return SDPBackend.FLASH_ATTENTION, dim_qk - dim_v
    return SDPBackend.CUDNN_ATTENTION, 0


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
