"""All-gather of every token of the group, reduce-scatter of the sums back (Megatron-Core's MoEAllGatherTokenDispatcher).

    dispatch = all-gather of ranks * tokens * bytes; combine = reduce-scatter of as many
    floor    = all-gather of the tokens' map of experts (1 byte each) and of their weights (4), before a new layout

Seconds: simulator/costs/collectives/ring.py. No load changes them: everyone receives everything.
"""

from __future__ import annotations

from hwprofiles.kernels.shape import Regime
from simulator.costs.collectives.ring import RingOp, ring_cost
from simulator.costs.cost import NO_COST, CollectiveCost
from simulator.costs.dispatchers.kind import DISPATCHERS, Dispatcher, Links, beside_kernels, group_of
from simulator.workload.expert_load import LoadedLinks
from simulator.workload.op import AllToAll

MAP_BYTES = 1 + 4


def _cost(message: AllToAll, links: Links, regime: Regime) -> CollectiveCost:
    op: RingOp = "all_gather" if message.op == "dispatch" else "reduce_scatter"
    return _ring(op, message.tokens * message.bytes_per_token, message, links, regime)


def _ring(op: RingOp, own_bytes: int, message: AllToAll, links: Links, regime: Regime) -> CollectiveCost:
    alone = ring_cost(op, message.ranks * own_bytes, group_of(message), links.network, links.stack)
    return alone if regime == "alone" else beside_kernels(alone, links.stretch)


def _floor(message: AllToAll, links: Links, regime: Regime) -> CollectiveCost:
    if message.op != "dispatch" or message.cached_layout:
        return NO_COST
    return _ring("all_gather", message.tokens * message.num_experts * MAP_BYTES, message, links, regime)


def _loaded(_message: AllToAll, _links: Links) -> LoadedLinks:
    return LoadedLinks(0.0, 0.0, 1.0)


ALL_GATHER = DISPATCHERS.add("allgather", Dispatcher(_cost, _floor, _loaded))
