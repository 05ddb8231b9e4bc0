"""Attention of some queries and keys by the library's flash kernels, forward and backward as two calls.

Tensors are (batch, heads, tokens, head size). Causal means aligned at the last query and key: query i of n sees all but the
n - 1 - i last keys. Fewer key heads than query heads serve them in order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Tensor = Any


@dataclass(frozen=True)
class Forward:
    """What a forward gives and its backward needs. out: as the queries; lse (batch, heads, queries): log of the sums."""

    out: Tensor
    lse: Tensor
    rest: tuple[Any, ...]


def forward(q: Tensor, k: Tensor, v: Tensor, *, is_causal: bool) -> Forward:
    """Attention of q to k and v; on a CPU by its own kernel, which wants a key head a query head and a mask."""
    import torch

    if q.is_cuda:
        out, lse, *rest = torch.ops.aten._scaled_dot_product_flash_attention(q, k, v, 0.0, is_causal, False)
        return Forward(out, lse, tuple(rest[:6]))
    run = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    out, lse = run(q, _repeated(k, q), _repeated(v, q), 0.0, False, attn_mask=_mask(q, k, is_causal))
    return Forward(out, lse, ())


def backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, rest: tuple[Any, ...], *, is_causal: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k and v, out and lse being those of all keys that the queries see, in this piece or others."""
    import torch

    if q.is_cuda:
        cum_q, cum_k, _, _, seed, offset = rest
        run = torch.ops.aten._scaled_dot_product_flash_attention_backward
        found = run(grad, q, k, v, out, lse, cum_q, cum_k, q.shape[2], k.shape[2], 0.0, is_causal, seed, offset)
        return found[0], found[1], found[2]
    run = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
    mask = _mask(q, k, is_causal)
    dq, dk, dv = run(grad, q, _repeated(k, q), _repeated(v, q), out, lse, 0.0, False, attn_mask=mask)
    return dq, _summed(dk, k), _summed(dv, v)


def _repeated(k: Tensor, q: Tensor) -> Tensor:
    return k.repeat_interleave(q.shape[1] // k.shape[1], dim=1)


def _summed(grad: Tensor, k: Tensor) -> Tensor:
    batch, heads, tokens, size = k.shape
    return grad.reshape(batch, heads, -1, tokens, size).sum(2)


def _mask(q: Tensor, k: Tensor, is_causal: bool) -> Tensor | None:
    import torch

    if not is_causal:
        return None
    seen = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).tril(k.shape[2] - q.shape[2])
    return torch.zeros(seen.shape, dtype=q.dtype).masked_fill(~seen, float("-inf"))
