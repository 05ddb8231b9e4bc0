"""Seconds of a message: dispatch and combine, transfers between stages, collectives of data parallelism."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from hwprofiles.kernels.shape import Regime
from hwprofiles.stack_records import Assumption, Stack
from simulator.costs.collectives.exchange import exchange_cost, neighbour_cost
from simulator.costs.collectives.p2p import p2p_cost
from simulator.costs.collectives.ring import RingOp, ring_cost
from simulator.costs.collectives.tree import scalar_all_reduce_cost
from simulator.costs.cost import NO_COST, CollectiveCost
from simulator.costs.dispatchers import DISPATCHERS
from simulator.costs.dispatchers.kind import Links
from simulator.costs.host import Host, host_of
from simulator.network.placement import GroupShape, Hop, Placement, group_shape
from simulator.network.topology import Network
from simulator.scenario import derived
from simulator.scenario.hardware import node_of
from simulator.scenario.scenario import Scenario
from simulator.step.hardware import Hardware
from simulator.workload.expert_load import LoadedLinks
from simulator.workload.op import AllToAll, Collective, CollectiveOp


@dataclass(frozen=True)
class MessagePrices:
    """Seconds of messages on one network with one stack's links.

    comm_sms: SMs that dispatch and combine run on. has_notify_floor: each pays the fixed cost of its notification.
    has_transfers: a pipeline transfer takes time. has_collectives: so does a collective of these axes inside a
    block.
    collective_stretch: how many times as long a collective's bytes on scale-up links take beside kernels. full_grid: kernels
    beside dispatch and combine are launched on the whole GPU, so that these wait for SMs as collectives do. known: ring
    collectives that this stack and network were asked for already. host: None where nothing is offloaded.
    """

    stack: Stack
    network: Network
    placement: Placement
    comm_sms: int
    has_notify_floor: bool
    has_transfers: bool
    has_collectives: frozenset[str]
    collective_stretch: float
    full_grid: bool = False
    host: Host | None = None
    known: dict[tuple[CollectiveOp, int, GroupShape], CollectiveCost] = field(
        default_factory=dict, compare=False, repr=False
    )

    def has_alone_of(self, other: MessagePrices) -> bool:
        """Whether messages cost the same in both with no kernel beside them."""
        return replace(self, collective_stretch=other.collective_stretch) == other

    def same_regimes(self, other: MessagePrices) -> frozenset[Regime]:
        """The regimes in which dispatch and combine cost the same in both."""
        if not self.has_alone_of(other):
            return frozenset()
        is_same = not self.full_grid or self.collective_stretch == other.collective_stretch
        return frozenset(("overlapped", "alone") if is_same else ("alone",))

    @property
    def _links(self) -> Links:
        return Links(self.network, self.stack, self.comm_sms, self.collective_stretch, self.full_grid)

    def all_to_all(self, message: AllToAll, regime: Regime) -> CollectiveCost:
        """A dispatch or combine, every rank of the expert group evenly loaded."""
        dispatcher = DISPATCHERS[message.dispatcher]
        cost = dispatcher.cost(message, self._links, regime)
        if not self.has_notify_floor:
            return cost
        floor = dispatcher.floor(message, self._links, regime)
        return replace(
            cost, seconds=cost.seconds + floor.seconds, low=cost.low + floor.low, high=cost.high + floor.high,
            basis=cost.basis if floor.seconds < cost.seconds else floor.basis,
        )  # fmt: skip

    def loaded_links(self, message: AllToAll) -> LoadedLinks:
        """What the time of a dispatch or combine follows where ranks are unevenly loaded."""
        dispatcher = DISPATCHERS[message.dispatcher]
        links = dispatcher.loaded(message, self._links)
        if not self.has_notify_floor:
            return links
        kernel_s = dispatcher.cost(message, self._links, "alone").seconds
        floor_s = dispatcher.floor(message, self._links, "alone").seconds
        whole_s = kernel_s + floor_s
        return replace(links, fixed=(links.fixed * kernel_s + floor_s) / whole_s) if whole_s else links

    def send(self, num_bytes: int, hop: Hop) -> CollectiveCost:
        """`num_bytes` from a pipeline rank to its neighbour, or back: a hop takes as long in both directions."""
        sent = num_bytes if self.has_transfers else 0
        stride, senders = max(1, hop.node_stride), hop.senders or None
        is_pair = len(self.placement.pp_hops) == 2  # the last hop leads back to the first rank
        return p2p_cost(sent, self.network, self.stack, hop.same_node, stride, senders, is_pair)

    def collective(self, collective: Collective) -> CollectiveCost:
        """A collective inside a block, among the ranks of its axis, with nothing beside it."""
        if collective.axis not in self.has_collectives:
            return NO_COST
        group = getattr(self.placement, collective.axis)
        return self._known(collective.op, collective.num_bytes, group)

    def ring(self, op: RingOp, num_bytes: int, group: GroupShape) -> CollectiveCost:
        """A reduce-scatter, all-gather or all-reduce of `num_bytes` over a group."""
        return self._known(op, num_bytes, group)

    def _known(self, op: CollectiveOp, num_bytes: int, group: GroupShape) -> CollectiveCost:
        key = (op, num_bytes, group)
        if key not in self.known:
            if op == "all_to_all":
                cost = exchange_cost(num_bytes, group, self.network, self.stack)
            elif op == "send_recv":
                cost = neighbour_cost(num_bytes, group, self.network, self.stack)
            else:
                cost = ring_cost(op, num_bytes, group, self.network, self.stack)
            self.known[key] = cost
        return self.known[key]

    def between_stages(self, pp_ranks: Sequence[int], pp: int, num_bytes: int) -> CollectiveCost:
        """An all-reduce of `num_bytes` over the same place of several of the pp pipeline ranks."""
        stage_ranks = self.network.num_gpus // pp
        groups = np.arange(stage_ranks)[:, None] + stage_ranks * np.array(pp_ranks, dtype=np.int64)
        return self.ring("all_reduce", num_bytes, group_shape(groups, self.network.gpus_per_node))

    def norm(self, ranks: int | None = None) -> CollectiveCost:
        """The all-reduce of one number, for the gradient norm. ranks: GPUs that take part; None: all."""
        return scalar_all_reduce_cost(ranks or self.network.num_gpus, self.network, self.stack)


def message_prices(
    scenario: Scenario, hardware: Hardware, assumptions: Mapping[str, Assumption], before: MessagePrices | None = None,
    *, full_grid: bool = False,
) -> MessagePrices:  # fmt: skip
    """The message prices of a scenario. before: prices whose known collectives hold here too, where stack and network are the
    same. full_grid: as of `MessagePrices`.
    """
    on, stack = scenario.mechanisms, hardware.stack
    return MessagePrices(
        stack=stack,
        network=hardware.network,
        placement=hardware.placement,
        comm_sms=derived.comm_sms(scenario),
        has_notify_floor=on.notify_floor,
        has_transfers=on.pp_transfer and scenario.parallel.pp > 1,
        has_collectives=frozenset(
            (*(("tp", "etp") if on.tp_collectives else ()), *(("cp",) if on.cp_collectives else ()))
        ),
        collective_stretch=assumptions["collective_stretch"].value if on.sm_partition else 1.0,
        full_grid=full_grid,
        host=_host(scenario, assumptions) if scenario.offload.is_used else None,
        known=before.known if before and before.stack is stack and before.network is hardware.network else {},
    )


def _host(scenario: Scenario, assumptions: Mapping[str, Assumption]) -> Host | None:
    """What a GPU has of its host."""
    node, rates = node_of(scenario), (assumptions["host_link_frac"], assumptions["host_memory_frac"])
    return host_of(node, scenario.cluster.num_gpus, *rates)
