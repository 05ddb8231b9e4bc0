"""The ranks that hold one set of experts, and the nodes among them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch.distributed as dist
from torch import Tensor

from hwprofiles.calibration.errors import CalibrationError, refuse
from hwprofiles.problem import Problem


@dataclass(frozen=True)
class ExpertGroup:
    """One expert group as one of its ranks sees it. Experts are placed consecutively, as many on each rank.

    whole: its process group. across: the ranks of the same index on each node; inside: those of this rank's own node.
    rank: in the whole group. ranks_per_node: consecutive ranks that count as one node.
    """

    whole: Any
    across: Any
    inside: Any
    rank: int
    size: int
    ranks_per_node: int
    num_experts: int

    @property
    def nodes(self) -> int:
        """Nodes of the group."""
        return self.size // self.ranks_per_node

    @property
    def experts_per_rank(self) -> int:
        """Experts that a rank holds."""
        return self.num_experts // self.size

    @property
    def first_expert(self) -> int:
        """The first of this rank's experts."""
        return self.rank * self.experts_per_rank


def expert_group(
    num_experts: int, ranks_per_node: int, size: int | None = None, *, timeout_s: float | None = None
) -> ExpertGroup:
    """Divides all ranks into expert groups of `size` consecutive ranks (None: one group of all), and gives this rank's.

    timeout_s: how long a rank waits for others before torch raises RuntimeError (None: torch's own, half an hour on a CPU).
    Every rank calls it, at the same place of its program. Raises CalibrationError: no process group, or numbers that do not
    divide one another.
    """
    if not dist.is_initialized():
        raise CalibrationError(
            [Problem("", "group", "torch.distributed is not initialised; call init_process_group first")]
        )
    world, me = dist.get_world_size(), dist.get_rank()
    size = world if size is None else size
    refuse(list(_problems(world, size, ranks_per_node, num_experts)))
    whole = across = inside = None
    for first in range(0, world, size):
        ranks = range(first, first + size)
        whole = _group_of(ranks, me, timeout_s) or whole
        for index in range(ranks_per_node):
            across = _group_of(ranks[index::ranks_per_node], me, timeout_s) or across
        for node in range(0, size, ranks_per_node):
            inside = _group_of(ranks[node : node + ranks_per_node], me, timeout_s) or inside
    return ExpertGroup(whole, across, inside, me % size, size, ranks_per_node, num_experts)


def _group_of(ranks: range, me: int, timeout_s: float | None) -> Any:
    """A new process group of these ranks, None for a rank outside it; every rank of the world takes part.

    NCCL's kernels go before those of products: else they would wait for a GPU that is full of them.
    """
    is_nccl = dist.get_backend() == "nccl"
    options = dist.ProcessGroupNCCL.Options(is_high_priority_stream=True) if is_nccl else None
    timeout = None if timeout_s is None else timedelta(seconds=timeout_s)
    group = dist.new_group(list(ranks), timeout=timeout, pg_options=options)
    return group if me in ranks else None


def _problems(world: int, size: int, ranks_per_node: int, num_experts: int) -> Iterable[Problem]:
    if size < 1 or world % size:
        yield Problem(
            "", "size", f"expert groups of {size} ranks do not divide the {world} ranks; use a divisor of {world}"
        )
    elif ranks_per_node < 1 or size % ranks_per_node:
        message = f"nodes of {ranks_per_node} ranks do not divide an expert group of {size}; use a divisor of {size}"
        yield Problem("", "ranks_per_node", message)
    if size > 0 and (num_experts < 1 or num_experts % size):
        message = f"{num_experts} experts cannot be spread evenly over {size} ranks; use a multiple of {size}"
        yield Problem("", "num_experts", message)


def sum_over(tensors: Iterable[Tensor], group: Any) -> None:
    """Adds up tensors over the ranks of a group, in place."""
    for pending in [dist.all_reduce(tensor, group=group, async_op=True) for tensor in tensors]:
        pending.wait()
