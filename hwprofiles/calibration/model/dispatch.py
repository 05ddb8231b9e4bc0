"""Rows to the experts and back: what a dispatcher offers, and the one of a single process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from hwprofiles.calibration.model.router import Routing


@dataclass(frozen=True, slots=True)
class Received:
    """Rows of the local experts.

    rows: (r, h), sorted by local expert; counts: (e_local,) int64, rows of each; row_weights: (r,) FP32; handle: what the
    dispatcher needs to send results back.
    """

    rows: Tensor
    counts: Tensor
    row_weights: Tensor
    handle: Any


@dataclass(frozen=True, slots=True)
class Placed:
    """Where rows go if all experts are here: `expert_order` of (t, top_k) experts; counts and row_weights as in `Received`."""

    order: Tensor
    top_k: int
    counts: Tensor
    row_weights: Tensor


class Dispatcher(Protocol):
    """Carries rows from tokens to experts and results back; rank of ranks holds experts rank e/ranks and following."""

    @property
    def ranks(self) -> int: ...
    @property
    def rank(self) -> int: ...

    def dispatch(self, x: Tensor, routing: Routing) -> Received:
        """x: (t, h), tokens of this process."""
        ...

    def combine(self, rows: Tensor, received: Received) -> Tensor:
        """(t, h): of each token the sum of its experts' rows (r, h), which bear their weights already."""
        ...


class LocalDispatch:
    """All experts on this process: a permutation. Kept: the row map (int64)."""

    ranks, rank = 1, 0

    def place(self, routing: Routing) -> Placed:
        order = expert_order(routing.experts)
        counts = expert_counts(routing.experts, routing.scores.shape[1])
        row_weights = permute(routing.weights.reshape(-1, 1), order, 1).flatten()
        return Placed(order, routing.experts.shape[1], counts, row_weights)

    def dispatch(self, x: Tensor, routing: Routing) -> Received:
        placed = self.place(routing)
        handle = placed.order, placed.top_k
        return Received(permute(x, *handle), placed.counts, placed.row_weights, handle)

    def combine(self, rows: Tensor, received: Received) -> Tensor:
        return unpermute(rows, *received.handle)


def expert_order(experts: Tensor) -> Tensor:
    """(t k,) int64: place in experts (t, k), row by row, of each row sorted by expert; rows of one expert by token."""
    return experts.flatten().argsort(stable=True)


def expert_counts(experts: Tensor, num_experts: int) -> Tensor:
    """(e,) int64: how often each expert stands in experts."""
    flat = experts.flatten()
    return torch.zeros(num_experts, dtype=torch.int64, device=flat.device).scatter_add_(0, flat, torch.ones_like(flat))


def permute(x: Tensor, order: Tensor, top_k: int) -> Tensor:
    """Rows of x (t, h), each top_k times, in the order of `expert_order`: (t k, h). The gradient sums a token's rows."""
    result: Tensor = _Permute.apply(x, order, top_k)
    return result


def unpermute(rows: Tensor, order: Tensor, top_k: int) -> Tensor:
    """(t, h): of each token the sum of its top_k rows; rows (t k, h) in the order of `expert_order`."""
    result: Tensor = _Unpermute.apply(rows, order, top_k)
    return result


def _spread(x: Tensor, order: Tensor, top_k: int) -> Tensor:
    return x.index_select(0, order // top_k)


def _collect(rows: Tensor, order: Tensor, top_k: int) -> Tensor:
    """Sums by gathering, in the order of the token's experts and not of a scatter's atomics: the same bits every time."""
    place = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
    wide = torch.promote_types(rows.dtype, torch.float32)
    return rows.index_select(0, place).unflatten(0, (-1, top_k)).sum(1, dtype=wide).to(rows.dtype)


class _Permute(torch.autograd.Function):
    """Keeps the order only."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, order: Tensor, top_k: int) -> Tensor:
        ctx.top_k = top_k
        ctx.save_for_backward(order)
        return _spread(x, order, top_k)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (order,) = ctx.saved_tensors
        return _collect(grad, order, ctx.top_k), None, None


class _Unpermute(torch.autograd.Function):
    """The other way round: keeps the order only."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, order: Tensor, top_k: int) -> Tensor:
        ctx.top_k = top_k
        ctx.save_for_backward(order)
        return _collect(rows, order, top_k)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (order,) = ctx.saved_tensors
        return _spread(grad, order, ctx.top_k), None, None
