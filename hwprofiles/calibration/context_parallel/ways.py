"""Three ways to attend to a sequence that is cut over a group of ranks, each a forward and a backward.

a2a          arXiv:2309.14509: queries, keys and values go from a part of the sequence and all heads to all of the sequence and
             a part of the heads, the output goes back. A rank holds the sequence's parts in order.
all_gather   arXiv:2407.21783, section 3.3.2: keys and values of all ranks are gathered; their gradients are reduce-scattered.
ring         arXiv:2310.01889: keys and values go round, a hop a piece, while the piece before is computed; outputs are merged
             by their log-sum-exp. Backward the keys go round again, and their gradients behind them.
all_gather and ring hold two chunks of 2 c a rank, r and 2 c - 1 - r, so that all ranks see as many keys (zig-zag). Then the
first piece of a ring is causal; of the others half the keys (from ranks before) or half the queries (to ranks behind) count.

Tensors are (batch, heads, tokens of the rank, head size); gradients travel in their format, sums are taken in it too; a ring's
output is merged in FP32.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hwprofiles.calibration.context_parallel.core import Forward, Tensor, backward, forward

Saved = tuple[Any, ...]
Gradients = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Group:
    """Ranks that share a sequence, and this one's place among them."""

    handle: Any
    rank: int
    size: int


@dataclass(frozen=True)
class Way:
    """forward(q, k, v, group): the rank's output and what the backward needs. is_zigzag: which tokens a rank holds."""

    forward: Callable[[Tensor, Tensor, Tensor, Group], tuple[Tensor, Saved]]
    backward: Callable[[Tensor, Saved, Group], Gradients]
    is_zigzag: bool


def part(whole: Tensor, rank: int, ranks: int, *, is_zigzag: bool) -> Tensor:
    """The tokens (dimension 2) of a rank."""
    import torch

    if not is_zigzag:
        return whole.chunk(ranks, dim=2)[rank].contiguous()
    chunks = whole.chunk(2 * ranks, dim=2)
    return torch.cat([chunks[rank], chunks[2 * ranks - 1 - rank]], dim=2)


# ---- all-to-all


def to_heads(x: Tensor, group: Group) -> Tensor:
    """(1, h, s/c, d) of a part of the sequence to (1, h/c, s, d) of a part of the heads."""
    import torch
    import torch.distributed as dist

    _, heads, tokens, size = x.shape
    received = torch.empty_like(x)
    dist.all_to_all_single(received, x.contiguous(), group=group.handle)
    by_rank = received.reshape(group.size, heads // group.size, tokens, size)
    return by_rank.transpose(0, 1).reshape(1, heads // group.size, group.size * tokens, size)


def to_tokens(x: Tensor, group: Group) -> Tensor:
    """(1, h/c, s, d) back to (1, h, s/c, d)."""
    import torch
    import torch.distributed as dist

    _, heads, tokens, size = x.shape
    sent = x.reshape(heads, group.size, tokens // group.size, size).transpose(0, 1).contiguous()
    received = torch.empty_like(sent)
    dist.all_to_all_single(received, sent, group=group.handle)
    return received.reshape(1, heads * group.size, tokens // group.size, size)


def a2a_forward(q: Tensor, k: Tensor, v: Tensor, group: Group) -> tuple[Tensor, Saved]:
    """Four all-to-alls around the attention of all tokens."""
    q, k, v = (to_heads(x, group) for x in (q, k, v))
    found = forward(q, k, v, is_causal=True)
    return to_tokens(found.out, group), (q, k, v, found)


def a2a_backward(grad: Tensor, saved: Saved, group: Group) -> Gradients:
    """The same backward."""
    q, k, v, found = saved
    grads = backward(to_heads(grad, group), q, k, v, found.out, found.lse, found.rest, is_causal=True)
    return to_tokens(grads[0], group), to_tokens(grads[1], group), to_tokens(grads[2], group)


# ---- all-gather


def _in_order(gathered: Tensor, ranks: int) -> Tensor:
    """(c, 2, 1, h, s/c, d) of zig-zag parts to (2, 1, h, s, d)."""
    import torch

    halves = [gathered[rank].chunk(2, dim=3) for rank in range(ranks)]
    return torch.cat([halves[r][0] for r in range(ranks)] + [halves[r][1] for r in reversed(range(ranks))], dim=3)


def _by_rank(whole: Tensor, ranks: int) -> Tensor:
    """The way back."""
    import torch

    chunks = whole.chunk(2 * ranks, dim=3)
    return torch.stack([torch.cat([chunks[r], chunks[2 * ranks - 1 - r]], dim=3) for r in range(ranks)])


def _queries(q: Tensor, group: Group) -> list[tuple[Tensor, int]]:
    """Both chunks of queries, and how many keys each sees."""
    first, last = q.chunk(2, dim=2)
    chunk = first.shape[2]
    return [(first, (group.rank + 1) * chunk), (last, (2 * group.size - group.rank) * chunk)]


def all_gather_forward(q: Tensor, k: Tensor, v: Tensor, group: Group) -> tuple[Tensor, Saved]:
    """A gather, then the attention of each chunk of queries to the keys up to its own."""
    import torch
    import torch.distributed as dist

    own = torch.stack([k, v])
    gathered = own.new_empty((group.size, *own.shape))
    dist.all_gather_into_tensor(gathered.flatten(0, 1), own, group=group.handle)
    kv = _in_order(gathered, group.size)
    pieces = [
        (piece, seen, forward(piece, kv[0, :, :, :seen], kv[1, :, :, :seen], is_causal=True))
        for piece, seen in _queries(q, group)
    ]
    return torch.cat([found.out for _, _, found in pieces], dim=2), (kv, pieces)


def all_gather_backward(grad: Tensor, saved: Saved, group: Group) -> Gradients:
    """Gradients of all keys and values that the rank saw, summed over the ranks."""
    import torch
    import torch.distributed as dist

    kv, pieces = saved
    kv_grad, q_grads = torch.zeros_like(kv), []
    for piece_grad, (piece, seen, found) in zip(grad.chunk(2, dim=2), pieces, strict=True):
        keys, values = kv[0, :, :, :seen], kv[1, :, :, :seen]
        args = (piece_grad.contiguous(), piece, keys, values, found.out, found.lse, found.rest)
        dq, dk, dv = backward(*args, is_causal=True)
        q_grads.append(dq)
        kv_grad[0, :, :, :seen] += dk
        kv_grad[1, :, :, :seen] += dv
    sent = _by_rank(kv_grad, group.size)
    own = torch.empty_like(sent[0])
    dist.reduce_scatter_tensor(own, sent.flatten(0, 1), group=group.handle)
    return torch.cat(q_grads, dim=2), own[0], own[1]


# ---- ring


def hop(sent: Tensor, group: Group) -> tuple[Tensor, list[Any]]:
    """To the next rank, from the one before; what arrives, and what to wait for."""
    import torch
    import torch.distributed as dist

    arrives = torch.empty_like(sent)
    handle, to, source = group.handle, (group.rank + 1) % group.size, (group.rank - 1) % group.size
    ranks = dist.get_process_group_ranks(handle)
    both = [
        dist.P2POp(dist.isend, sent, ranks[to], group=handle),
        dist.P2POp(dist.irecv, arrives, ranks[source], group=handle),
    ]
    return arrives, dist.batch_isend_irecv(both)


def _piece(q: Tensor, kv: Tensor, step: int, group: Group) -> tuple[Tensor, Tensor]:
    """Queries and keys that count of a ring's piece: of keys from a rank before the first half, to one behind the last
    half of the queries."""
    if step == 0:
        return q, kv
    if step <= group.rank:
        return q, kv[:, :, :, : kv.shape[3] // 2]
    return q[:, :, q.shape[2] // 2 :], kv


def _merge(out: Tensor, lse: Tensor, found: Forward) -> None:
    """Takes a piece into the output so far, both in FP32, in place."""
    import torch

    weight = torch.sigmoid(found.lse - lse).unsqueeze(-1)
    out.lerp_(found.out.to(out.dtype), weight)
    lse.copy_(torch.logaddexp(lse, found.lse))


def ring_forward(q: Tensor, k: Tensor, v: Tensor, group: Group) -> tuple[Tensor, Saved]:
    """A piece a hop, the next hop beside it."""
    import torch

    own = kv = torch.stack([k, v])
    out = lse = first = None
    for step in range(group.size):
        arrives, waits = hop(kv, group) if step + 1 < group.size else (kv, [])
        queries, keys = _piece(q, kv, step, group)
        found = forward(queries, keys[0], keys[1], is_causal=step == 0)
        if out is None or lse is None:
            first, out, lse = found, found.out.float(), found.lse.clone()
        else:
            skipped = q.shape[2] - queries.shape[2]
            _merge(out[:, :, skipped:], lse[:, :, skipped:], found)
        for wait in waits:
            wait.wait()
        kv = arrives
    assert out is not None and first is not None
    result = out.to(q.dtype)
    return result, (q, own, result, lse, first.rest)


def ring_backward(grad: Tensor, saved: Saved, group: Group) -> Gradients:
    """The keys go round again; the gradients of a piece's keys follow them, and end where they belong."""
    import torch

    q, kv, out, lse, rest = saved
    q_grad = torch.zeros_like(q)
    kv_grad, arriving = torch.zeros_like(kv), None
    for step in range(group.size):
        arrives, waits = hop(kv, group) if step + 1 < group.size else (kv, [])
        queries, keys = _piece(q, kv, step, group)
        skipped = q.shape[2] - queries.shape[2]
        cut = [x[:, :, skipped:].contiguous() for x in (grad, q, out, lse)]
        dq, dk, dv = backward(cut[0], cut[1], keys[0], keys[1], cut[2], cut[3], rest, is_causal=step == 0)
        q_grad[:, :, skipped:] += dq
        if arriving is not None:
            kv_grad, gradient_waits = arriving
            for wait in gradient_waits:
                wait.wait()
        kv_grad[0, :, :, : keys.shape[3]] += dk
        kv_grad[1, :, :, : keys.shape[3]] += dv
        arriving = hop(kv_grad, group)
        for wait in waits:
            wait.wait()
        kv = arrives
    assert arriving is not None
    kv_grad, gradient_waits = arriving
    for wait in gradient_waits:
        wait.wait()
    return q_grad, kv_grad[0], kv_grad[1]


WAYS = {
    "a2a": Way(a2a_forward, a2a_backward, is_zigzag=False),
    "all_gather": Way(all_gather_forward, all_gather_backward, is_zigzag=True),
    "ring": Way(ring_forward, ring_backward, is_zigzag=True),
}
