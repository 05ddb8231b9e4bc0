"""NVIDIA's Hybrid-EP: a copy for each domain over NICs, from there one for each GPU, by the copy engines (TMA) of few SMs.

    t = t0 + max(NIC bytes / achieved NIC rate, NVLink bytes / achieved NVLink rate, SMs' copies)
    copies = max(bytes * c * a, tokens * s of FP8 scales) / SMs

c: in one domain the distinct GPUs of a token, else its distinct domains; a: s*SM a copied byte, `hybridep.sm_cost_<op>` (in one
domain) or `hybridep.sm_cost_between`; s: `hybridep.scales_s`, s*SM a token for each GPU of each domain that it goes to, whose
scales are sent apart. Fitted to the printed kernel times of deepseek-ai/DeepEP docs/README_Hybrid-EP.md (branch hybrid-ep).
Before a dispatch with a new layout every rank gathers the map of tokens to experts of all, 1 byte each, and scans it
(`hybridep.scan_s`). Backward messages know both.
"""

from __future__ import annotations

from dataclasses import replace

from hwprofiles.kernels.parameters import need
from hwprofiles.kernels.shape import Regime
from simulator.costs.collectives.all_to_all import beside_full_grid, followed, with_links, with_start
from simulator.costs.collectives.ring import ring_cost
from simulator.costs.cost import NO_COST, BoundBy, CollectiveCost, weakest
from simulator.costs.dispatchers.kind import DISPATCHERS, Dispatcher, Links, beside_kernels, group_of
from simulator.costs.links import CORNERS, Corner, NicPath, nic_path, rate_at, time_at
from simulator.network.traffic import exchange_traffic
from simulator.workload.expert_load import LoadedLinks
from simulator.workload.op import AllToAll


def _cost(message: AllToAll, links: Links, regime: Regime) -> CollectiveCost:
    alone = _alone(message, links)
    if regime == "alone" or not alone.seconds:
        return alone
    beside = alone.times(need(links.stack, "hybridep.beside"))
    if not links.full_grid:
        return beside
    return beside_full_grid(alone, beside, links.stretch, is_inside=message.num_nodes == 1)


def _alone(message: AllToAll, links: Links) -> CollectiveCost:
    if message.ranks == 1 or message.tokens == 0:
        return NO_COST
    stack, network = links.stack, links.network
    path = nic_path(stack, "link.nic.all_to_all", network, message.num_nodes)
    t0, share = need(stack, "hybridep.t0_s"), need(stack, _link(message))
    (value, bound_by), (low, _), (high, _) = (
        with_start(_terms(message, links, path, corner), time_at(t0, corner)) for corner in CORNERS
    )
    basis = weakest(share.basis, path.share.basis, t0.basis)
    source = path.share.source if bound_by == "nic" else share.source
    cost = CollectiveCost(value, low, high, basis, source, bound_by=bound_by)
    return with_links(cost, message, path, share, network, stack)


def _link(message: AllToAll) -> str:
    """Key of the share of NVLink's rate that is reached: between domains what arrives over NICs is passed on at less."""
    return f"hybridep.nvlink_{message.op}" if message.num_nodes == 1 else "hybridep.nvlink_between"


def _terms(message: AllToAll, links: Links, path: NicPath, corner: Corner) -> dict[BoundBy, float]:
    """Seconds of each resource."""
    stack, network, traffic = links.stack, links.network, exchange_traffic(message)
    one_domain = message.num_nodes == 1
    copy = need(stack, f"hybridep.sm_cost_{message.op}" if one_domain else "hybridep.sm_cost_between")
    copies = message.ranks_per_token if one_domain else message.nodes_per_token
    by_sms = message.bytes_per_token * copies * time_at(copy, corner)
    if message.is_scaled:
        told = message.ranks / message.num_nodes * message.nodes_per_token
        by_sms = max(by_sms, told * time_at(need(stack, "hybridep.scales_s"), corner))
    share = rate_at(need(stack, _link(message)), corner)
    return {
        "nic": path.seconds(traffic.nic_bytes, network.nic_bytes_per_s, corner),
        "scale_up": traffic.scale_up_bytes / (share * network.scale_up_bytes_per_s),
        "sms": message.tokens * by_sms / links.comm_sms,
    }


def _floor(message: AllToAll, links: Links, regime: Regime) -> CollectiveCost:
    if message.op != "dispatch" or message.cached_layout or message.ranks == 1 or message.tokens == 0:
        return NO_COST
    told = message.ranks * message.tokens * message.num_experts
    gather = ring_cost("all_gather", told, group_of(message), links.network, links.stack)
    gather = gather if regime == "alone" else beside_kernels(gather, links.stretch)
    scan = need(links.stack, "hybridep.scan_s")
    return replace(
        gather, seconds=gather.seconds + scan.value, low=gather.low + scan.low, high=gather.high + scan.high,
        basis=weakest(gather.basis, scan.basis),
    )  # fmt: skip


def _loaded(message: AllToAll, links: Links) -> LoadedLinks:
    path = nic_path(links.stack, "link.nic.all_to_all", links.network, message.num_nodes)
    terms = _terms(message, links, path, "value")
    return followed(terms, need(links.stack, "hybridep.t0_s").value, is_inside=message.num_nodes == 1)


HYBRIDEP = DISPATCHERS.add("hybridep", Dispatcher(_cost, _floor, _loaded))
