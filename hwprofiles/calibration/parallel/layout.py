"""Where the rows of a dispatch go, from the experts that tokens have chosen: found once, used four times.

A token's row goes once to each node that holds one of its experts, to the rank of the sender's index there, which forwards it
once to each rank of the node that does; there a row is made for each of the token's experts. Results come back the same way,
summed at each place. Shape letters beside the package's: c copies (token, place).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from hwprofiles.calibration.parallel.all_to_all import Splits, exchange, exchange_counts
from hwprofiles.calibration.parallel.flight import Running, Steps, Tensors
from hwprofiles.calibration.parallel.groups import ExpertGroup


@dataclass(frozen=True)
class Spread:
    """Rows copied to places, and summed on the way back.

    source: (c,) the row that each copy is of, copies in order of their place. by_row: (c,) copies in order of their row, of one
    row in that of their places; first: (rows,) where a row's copies begin in it.
    """

    source: Tensor
    by_row: Tensor
    first: Tensor

    @classmethod
    def of(cls, source: Tensor, num_copies: Tensor) -> Spread:
        """num_copies: (rows,) copies of each."""
        return cls(source, source.argsort(stable=True), num_copies.cumsum(0) - num_copies)

    def copies(self, x: Tensor) -> Tensor:
        """(rows, …) to (c, …)."""
        return x.index_select(0, self.source)

    def sums(self, copies: Tensor) -> Tensor:
        """(c, n) to (rows, n): of each row the sum over its copies, in the order of places, in FP32 (float64 of float64).

        Rounded once to the copies' dtype; one kernel on a GPU.
        """
        if not len(copies):
            return copies.new_zeros(len(self.first), copies.shape[1])
        wide = copies if copies.is_cuda else copies.to(torch.promote_types(copies.dtype, torch.float32))
        return functional.embedding_bag(self.by_row, wide, self.first, mode="sum").to(copies.dtype)


@dataclass(frozen=True)
class Leg:
    """A spread over the ranks of a process group."""

    spread: Spread
    splits: Splits
    group: Any
    rank: int

    def out(self, tensors: Tensors) -> Steps:
        """Steps that copy rows and send the copies; they return those received."""
        return exchange([self.spread.copies(x) for x in tensors], self.splits, self.group)

    def back(self, received: Tensors) -> Steps:
        """Steps that send back what was received and return the sums over each row's copies."""
        copies = yield from exchange(received, self.splits.back(), self.group)
        return tuple(self.spread.sums(x) for x in copies)

    @property
    def sent_away(self) -> int:
        """Copies that leave this rank on the way out."""
        return sum(self.splits.send) - self.splits.send[self.rank]

    @property
    def received_from_others(self) -> int:
        """Copies that leave this rank on the way back."""
        return sum(self.splits.receive) - self.splits.receive[self.rank]


@dataclass(frozen=True)
class Layout:
    """The ways of one dispatch.

    legs: across nodes, then inside the node; a level of one place has none. rows: from the copies that arrive to the rows of
    the local experts; counts: (experts of this rank,) rows of each; slot: (r,) which of its copy's k choices a row is.
    tokens: t; node_copies: copies that this rank sends to nodes, rank_copies: that it forwards to ranks, to itself included.
    """

    legs: dict[str, Leg]
    rows: Spread
    counts: Tensor
    slot: Tensor
    tokens: int
    node_copies: int
    rank_copies: int


ACROSS, INSIDE = "across", "inside"


def plan(experts: Tensor, group: ExpertGroup) -> Layout:
    """The layout of a dispatch; every rank of the group takes part. experts: (t, k) int64.

    The host waits for the device once a level and once for the number of rows.
    """
    tokens, none = len(experts), group.num_experts
    legs: dict[str, Leg] = {}
    copies = {}
    levels = (
        (ACROSS, group.across, group.nodes, none // group.nodes, group.rank // group.ranks_per_node, 0),
        (INSIDE, group.inside, group.ranks_per_node, group.experts_per_rank, group.rank % group.ranks_per_node,
         group.rank // group.ranks_per_node * group.ranks_per_node * group.experts_per_rank),
    )  # fmt: skip
    for name, members, places, held, rank, first in levels:
        if places > 1:
            leg = legs[name] = _leg(
                torch.where(experts < none, (experts - first) // held, places), places, members, rank
            )
            experts = Running(leg.out((experts,)), (experts,)).end()[0]
            mine = first + rank * held
            experts = torch.where((experts >= mine) & (experts < mine + held), experts, none)
            copies[name] = sum(leg.splits.send)
        else:
            copies[name] = len(experts)
    local = torch.where(experts < none, experts - group.first_expert, group.experts_per_rank)
    rows, counts, slot = _local_rows(local, group.experts_per_rank)
    return Layout(legs, rows, counts, slot, tokens, copies[ACROSS], copies[INSIDE])


def _leg(place: Tensor, num_places: int, group: Any, rank: int) -> Leg:
    """place: (rows, k) int64, the place of each choice; num_places where it is nobody's. One copy a row and place."""
    wanted = place.new_zeros(len(place), num_places + 1).scatter_(1, place, 1)[:, :num_places]
    splits = exchange_counts(wanted.sum(0), group)
    # The wanted cells first, place after place: which are so many is known already, so that nobody has to look for them.
    cells = wanted.t().flatten().argsort(descending=True, stable=True)[: sum(splits.send)]
    return Leg(Spread.of(cells % max(1, len(place)), wanted.sum(1)), splits, group, rank)


def _local_rows(local: Tensor, num_experts: int) -> tuple[Spread, Tensor, Tensor]:
    """Rows of the local experts, how many each has, and each row's place among its copy's choices. local: (c, k)."""
    k, flat = local.shape[1], local.flatten()
    counts = flat.new_zeros(num_experts + 1).scatter_add_(0, flat, torch.ones_like(flat))[:num_experts]
    order = flat.argsort(stable=True)[: int(counts.sum())]
    return Spread.of(order // k, (local < num_experts).sum(1)), counts, order % k
