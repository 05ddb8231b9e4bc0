"""Attention a block of queries at a time, any head sizes, in FP32 (FP64 for float64): what a fused kernel does, written out.

The scores of one block alone exist; the backward makes them again from q, k and the log-sum-exp (Dao, arXiv:2307.08691, 3.1).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import torch
from torch import Tensor

BLOCK: Final = 128
"""Queries of a block."""


def blockwise(q: Tensor, k: Tensor, v: Tensor, sinks: Tensor | None, scale: float, window: int | None) -> Tensor:
    """Shapes and meaning as in `attention_core.attend`."""
    result: Tensor = _Blockwise.apply(q, k, v, sinks, scale, window)
    return result


class _Blockwise(torch.autograd.Function):
    """Letters of the inner shapes: b sequences, h key and value heads, g query heads of one, q queries, k keys, d head size."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, sinks: Tensor | None, scale: float, window: int | None
    ) -> Tensor:
        ctx.scale, ctx.window = scale, window
        wide_q, wide_k, wide_v = _grouped(q, k), _wide(k), _wide(v)
        out = torch.empty(*q.shape[:3], v.shape[-1], dtype=q.dtype, device=q.device)
        log_sums = torch.empty(q.shape[0], q.shape[2], q.shape[1], dtype=wide_q.dtype, device=q.device)
        for queries, keys, hidden in _blocks(q.shape[1], window, q.device):
            scores = _scores(wide_q[:, queries], wide_k[:, keys], scale, hidden)
            log_sum = scores.logsumexp(-1)
            if sinks is not None:
                log_sum = torch.logaddexp(log_sum, _of_heads(sinks, k.shape[2]).to(log_sum.dtype))
            weights = (scores - log_sum[..., None]).exp()
            out[:, queries] = torch.einsum("bhgqk,bkhd->bqhgd", weights, wide_v[:, keys]).flatten(2, 3).to(q.dtype)
            log_sums[:, :, queries] = log_sum.flatten(1, 2)
        ctx.save_for_backward(q, k, v, sinks, out, log_sums)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, sinks, out, log_sums = ctx.saved_tensors
        wide_q, wide_k, wide_v, wide_grad = _grouped(q, k), _wide(k), _wide(v), _grouped(grad, k)
        out_grad = (_grouped(out, k) * wide_grad).sum(-1).permute(0, 2, 3, 1)  # (b, h, g, q)
        log_sums = log_sums.unflatten(1, (k.shape[2], -1))
        q_grad, k_grad, v_grad = torch.zeros_like(wide_q), torch.zeros_like(wide_k), torch.zeros_like(wide_v)
        for queries, keys, hidden in _blocks(q.shape[1], ctx.window, q.device):
            scores = _scores(wide_q[:, queries], wide_k[:, keys], ctx.scale, hidden)
            weights = (scores - log_sums[..., queries, None]).exp()
            v_grad[:, keys] += torch.einsum("bhgqk,bqhgd->bkhd", weights, wide_grad[:, queries])
            weights_grad = torch.einsum("bqhgd,bkhd->bhgqk", wide_grad[:, queries], wide_v[:, keys])
            scores_grad = weights * (weights_grad - out_grad[..., queries, None]) * ctx.scale
            q_grad[:, queries] = torch.einsum("bhgqk,bkhd->bqhgd", scores_grad, wide_k[:, keys])
            k_grad[:, keys] += torch.einsum("bhgqk,bqhgd->bkhd", scores_grad, wide_q[:, queries])
        sinks_grad = None
        if sinks is not None:
            shares = (_of_heads(sinks, k.shape[2]).to(log_sums.dtype) - log_sums).exp()
            sinks_grad = -(shares * out_grad).sum((0, 3)).flatten().to(sinks.dtype)
        return q_grad.flatten(2, 3).to(q.dtype), k_grad.to(k.dtype), v_grad.to(v.dtype), sinks_grad, None, None


def _blocks(length: int, window: int | None, device: torch.device) -> Iterator[tuple[slice, slice, Tensor]]:
    """Queries, the keys that one of them attends to, and which pairs are hidden, (queries, keys)."""
    for first in range(0, length, BLOCK):
        last = min(first + BLOCK, length)
        begin = 0 if window is None else max(0, first - window + 1)
        behind = torch.arange(first, last, device=device)[:, None] - torch.arange(begin, last, device=device)
        hidden = behind < 0 if window is None else (behind < 0) | (behind >= window)
        yield slice(first, last), slice(begin, last), hidden


def _scores(q: Tensor, k: Tensor, scale: float, hidden: Tensor) -> Tensor:
    """(b, h, g, q, k), hidden ones -inf."""
    return (torch.einsum("bqhgd,bkhd->bhgqk", q, k) * scale).masked_fill(hidden, float("-inf"))


def _grouped(q: Tensor, k: Tensor) -> Tensor:
    """(b, s, n, d) as (b, s, h, g, d)."""
    return _wide(q).unflatten(2, (k.shape[2], -1))


def _of_heads(sinks: Tensor, kv_heads: int) -> Tensor:
    """(n,) as (h, g, 1)."""
    return sinks.unflatten(0, (kv_heads, -1))[..., None]


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype is torch.float64 else x.to(torch.float32)
