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

from hwprofiles.calibration.parallel.all_to_all import Splits, exchange, exchange_counts
from hwprofiles.calibration.parallel.flight import Running, Steps, Tensors
from hwprofiles.calibration.parallel.groups import ExpertGroup


@dataclass(frozen=True)
class Spread:
    """Rows copied to places, and summed on the way back.

    source: (c,) the row that each copy is of, copies in order of their place. turns: of each row its first copy, then of each
    row that has a second one that, and so on: (rows, their copies).
    """

    source: Tensor
    turns: tuple[tuple[Tensor, Tensor], ...]
    num_rows: int

    def copies(self, x: Tensor) -> Tensor:
        """(rows, …) to (c, …)."""
        return x.index_select(0, self.source)

    def sums(self, copies: Tensor) -> Tensor:
        """(c, …) to (rows, …): of each row the sum over its copies, in FP32 (float64 of float64).

        In the order of places, whatever a GPU does first: no row is added to twice in a turn.
        """
        wide = torch.promote_types(copies.dtype, torch.float32)
        total = torch.zeros(self.num_rows, *copies.shape[1:], dtype=wide, device=copies.device)
        for rows, numbers in self.turns:
            total.index_add_(0, rows, copies.index_select(0, numbers).to(wide))
        return total


def _spread(source: Tensor, numbers: Tensor) -> Spread:
    """numbers: (rows, most copies of a row), of each row its copies; where it has fewer, a number that is no copy's."""
    ordered = numbers.sort(dim=1).values
    num_copies = (ordered < len(source)).sum(1, keepdim=True)
    most_first = num_copies.flatten().argsort(descending=True, stable=True)
    sizes = (num_copies > torch.arange(numbers.shape[1], device=numbers.device)).sum(0).tolist()
    turns = [(most_first[:size], ordered[most_first[:size], turn]) for turn, size in enumerate(sizes) if size]
    return Spread(source, tuple(turns), len(numbers))


def spread(choices: Tensor, num_places: int) -> tuple[Spread, Tensor]:
    """Copies each row goes out in, and how many each place gets (num_places,) int64.

    choices: (rows, k) int64, the place of each choice; num_places where the choice is nobody's. One copy a row and place.
    """
    rows = len(choices)
    wanted = torch.zeros(rows, num_places + 1, dtype=torch.bool, device=choices.device).scatter_(1, choices, True)
    place, source = wanted[:, :num_places].t().nonzero(as_tuple=True)
    numbers = torch.full((rows, num_places), len(source), dtype=torch.int64, device=choices.device)
    numbers[source, place] = torch.arange(len(source), device=choices.device)
    return _spread(source, numbers), wanted[:, :num_places].sum(0)


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
        """Steps that send back what was received and return the sums over each row's copies, in FP32 or float64."""
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
    """The layout of a dispatch; every rank of the group takes part. experts: (t, k) int64."""
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
            place = torch.where(experts < none, (experts - first) // held, places)
            way, counts = spread(place, places)
            leg = legs[name] = Leg(way, exchange_counts(counts, members), members, rank)
            experts = Running(leg.out((experts,)), (experts,)).end()[0]
            mine = first + rank * held
            experts = torch.where((experts >= mine) & (experts < mine + held), experts, none)
            copies[name] = sum(leg.splits.send)
        else:
            copies[name] = len(experts)
    local = torch.where(experts < none, experts - group.first_expert, group.experts_per_rank)
    rows, counts, slot = _local_rows(local, group.experts_per_rank)
    return Layout(legs, rows, counts, slot, tokens, copies[ACROSS], copies[INSIDE])


def _local_rows(local: Tensor, num_experts: int) -> tuple[Spread, Tensor, Tensor]:
    """Rows of the local experts, how many each has, and each row's place among its copy's choices. local: (c, k)."""
    copies, k = local.shape
    flat = local.flatten()
    order = flat.sort(stable=True).indices[: int((flat < num_experts).sum())]
    numbers = torch.full((copies * k,), len(order), dtype=torch.int64, device=local.device)
    numbers[order] = torch.arange(len(order), device=local.device)
    counts = torch.bincount(flat, minlength=num_experts + 1)[:num_experts]
    return _spread(order // k, numbers.view(copies, k)), counts, order % k
