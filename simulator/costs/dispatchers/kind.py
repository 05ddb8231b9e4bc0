"""What a dispatcher's file gives, and what every one is asked with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from hwprofiles.kernels.shape import Regime
from hwprofiles.stack_records import Stack
from simulator.costs.cost import CollectiveCost, weakest
from simulator.network.placement import GroupShape
from simulator.network.topology import Network
from simulator.registry import Family
from simulator.workload.expert_load import LoadedLinks
from simulator.workload.op import AllToAll


@dataclass(frozen=True, slots=True)
class Links:
    """What dispatch and combine run on.

    comm_sms: SMs of their kernels, at least 1. stretch: how many times as long a collective's bytes inside nodes take beside
    kernels. full_grid: kernels beside them are launched on the whole GPU, so that theirs wait for SMs as collectives do.
    """

    network: Network
    stack: Stack
    comm_sms: int
    stretch: float = 1.0
    full_grid: bool = False


@dataclass(frozen=True, slots=True)
class Dispatcher:
    """Costs of one library.

    cost: seconds of a dispatch or combine, every rank evenly loaded, beside kernels or alone. floor: what comes before it when
    no rank is late: counts announced, places of the rows found. loaded: what `cost` without the floor follows where ranks are
    unevenly loaded. Each raises MissingKernelError where the stack lacks a key.
    """

    cost: Callable[[AllToAll, Links, Regime], CollectiveCost]
    floor: Callable[[AllToAll, Links, Regime], CollectiveCost]
    loaded: Callable[[AllToAll, Links], LoadedLinks]


DISPATCHERS: Final[Family[Dispatcher]] = Family("dispatcher")
"""The names of simulator/scenario/dispatchers.py."""


def group_of(message: AllToAll) -> GroupShape:
    """The expert group as collectives know it. Of unequal nodes the one with the fewest members counts, which sends most."""
    members = message.ranks // message.num_nodes
    if message.fullest_node is not None:
        members = max(1, message.ranks - message.fullest_node * (message.num_nodes - 1))
    return GroupShape(message.ranks, message.num_nodes, members)


def beside_kernels(alone: CollectiveCost, stretch: float) -> CollectiveCost:
    """A collective beside kernels: bytes inside nodes take `stretch` times as long."""
    seconds = alone.beside_s(stretch)
    longer = seconds / alone.seconds if alone.seconds else 1.0
    return replace(alone, seconds=seconds, high=alone.high * longer, low=min(alone.low, seconds))


def behind(first: CollectiveCost, then: CollectiveCost) -> CollectiveCost:
    """Two messages one behind the other, as one. The longer says what binds it."""
    longer = first if first.seconds > then.seconds else then
    return replace(
        longer, seconds=first.seconds + then.seconds, low=first.low + then.low, high=first.high + then.high,
        basis=weakest(first.basis, then.basis), bytes_nic=first.bytes_nic + then.bytes_nic,
        bytes_scale_up=first.bytes_scale_up + then.bytes_scale_up, nic_s=first.nic_s + then.nic_s,
        scale_up_s=first.scale_up_s + then.scale_up_s, inside_s=first.inside_s + then.inside_s,
        latency_s=first.latency_s + then.latency_s,
    )  # fmt: skip
