"""DeepEP's normal kernels: a copy for each node over NICs, from there one for each GPU; SMs make them.

The formula and its rows: simulator/costs/collectives/all_to_all.py.
"""

from __future__ import annotations

from hwprofiles.kernels.shape import Regime
from simulator.costs.collectives.all_to_all import all_to_all_cost, beside_full_grid, loaded_links, notify_floor
from simulator.costs.cost import CollectiveCost
from simulator.costs.dispatchers.kind import DISPATCHERS, Dispatcher, Links
from simulator.workload.expert_load import LoadedLinks
from simulator.workload.op import AllToAll


def _cost(message: AllToAll, links: Links, regime: Regime) -> CollectiveCost:
    cost = all_to_all_cost(message, links.network, links.stack, regime, links.comm_sms)
    if regime != "overlapped" or not links.full_grid:
        return cost
    alone = all_to_all_cost(message, links.network, links.stack, "alone", links.comm_sms)
    return beside_full_grid(alone, cost, links.stretch, is_inside=message.num_nodes == 1)


def _floor(message: AllToAll, links: Links, regime: Regime) -> CollectiveCost:
    return notify_floor(message, links.stack, regime)


def _loaded(message: AllToAll, links: Links) -> LoadedLinks:
    return loaded_links(message, links.network, links.stack, links.comm_sms)


DEEPEP = DISPATCHERS.add("deepep", Dispatcher(_cost, _floor, _loaded))
