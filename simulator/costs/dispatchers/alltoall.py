"""All-to-all of the collective library (grouped sends): every choice of a token is a row that is sent, none is joined.

    floor    = all-gather of the counts of rows for each expert (8 bytes), before a dispatch with a new layout
    dispatch = exchange of rows * bytes (simulator/costs/collectives/exchange.py), then of their weights, 4 bytes each
    combine  = exchange of rows * bytes

(NVIDIA/Megatron-LM core/transformer/moe/token_dispatcher.py, MoEAlltoAllTokenDispatcher.) An exchange ends on every rank when
the fullest one has sent or received its rows, since each of the others sends to it or waits for it.
"""

from __future__ import annotations

from hwprofiles.kernels.shape import Regime
from simulator.costs.collectives.exchange import exchange_cost
from simulator.costs.collectives.ring import ring_cost
from simulator.costs.cost import NO_COST, CollectiveCost
from simulator.costs.dispatchers.kind import DISPATCHERS, Dispatcher, Links, behind, beside_kernels, group_of
from simulator.workload.expert_load import LoadedLinks
from simulator.workload.op import AllToAll

WEIGHT_BYTES = 4
"""The FP32 weight of a row, which goes with it, and its gradient back."""
COUNT_BYTES = 8


def _cost(message: AllToAll, links: Links, regime: Regime) -> CollectiveCost:
    rows = message.tokens * message.rows_per_token
    alone = _exchange(rows * message.bytes_per_token, message, links)
    if message.sends_weights:
        alone = behind(_exchange(rows * WEIGHT_BYTES, message, links), alone)
    return alone if regime == "alone" else beside_kernels(alone, links.stretch)


def _exchange(num_bytes: float, message: AllToAll, links: Links) -> CollectiveCost:
    return exchange_cost(num_bytes, group_of(message), links.network, links.stack)


def _floor(message: AllToAll, links: Links, regime: Regime) -> CollectiveCost:
    if message.op != "dispatch" or message.cached_layout or not message.host_syncs:
        return NO_COST
    counts = COUNT_BYTES * message.ranks * message.num_experts
    cost = ring_cost("all_gather", counts, group_of(message), links.network, links.stack)
    return cost if regime == "alone" else beside_kernels(cost, links.stretch)


def _loaded(message: AllToAll, links: Links) -> LoadedLinks:
    cost = _cost(message, links, "alone")
    if not cost.seconds:
        return LoadedLinks()
    return LoadedLinks(0.0, 1.0, min(1.0, cost.latency_s / cost.seconds), by_rows=True)


ALL_TO_ALL = DISPATCHERS.add("alltoall", Dispatcher(_cost, _floor, _loaded))
