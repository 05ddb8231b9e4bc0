"""What a step puts on its network: by hand, conserved from messages to links, and as flows routed over the switch graph."""

from __future__ import annotations

from collections import Counter
from functools import cache
from itertools import pairwise
from math import fsum
from typing import Any

import networkx as nx
import pytest

from hwprofiles import catalog
from simulator import load_scenario
from simulator.errors import InputError
from simulator.network.topology import Network, network_graph
from simulator.results.network_view import TRAFFICS, LinkLoad, NetworkView, Traffic
from simulator.results.step_result import CollectiveTime
from simulator.step.collectives import collective_times
from simulator.step.graph import build_graph
from simulator.step.network_load import messages_of, network_view, sent_bytes
from simulator.step.prepared import PreparedStep, prepare
from tests.laws.runs import changed
from tests.laws.scenarios import Document, dense_model
from tests.step.test_collectives import PLAN

DENSE: Document = {
    "model": dense_model(8, 4096, 14_336, heads=32, kv_heads=8, vocab=32_000),
    "cluster": {"node": "h100-x8", "num_gpus": 64, "fabric": "ib-400g-fattree"},
    "parallel": {"pp": 4, "tp": 2, "sequence_parallel": True, "schedule": "1f1b"},
    "training": {"seq_len": 4096, "global_batch_size": 64},
    "draws": 1,
}
STEP_S = 2.0
MICRO_BATCHES = 4  # 128 sequences over 32 ranks of a stage


class Case:
    """A scenario with its view and what it was made from."""

    def __init__(self, document: Document) -> None:
        self.step: PreparedStep = prepare(load_scenario(document))
        self.graph = build_graph(self.step)
        self.view: NetworkView = network_view(self.step, self.graph, STEP_S)
        self.network: Network = self.step.hardware.network
        self.sent = sent_bytes(self.step, self.graph)

    def link(self, kind: str) -> LinkLoad:
        return next(link for link in self.view.links if link.kind == kind)

    def rows(self, name: str) -> list[CollectiveTime]:
        return [row for row in collective_times(self.graph) if row.name == name]


@cache
def plan() -> Case:
    return Case(PLAN)


@cache
def dense() -> Case:
    return Case(DENSE)


def case(**changes: Any) -> Case:
    return Case(changed(PLAN, **changes))


def test_dispatch_and_combine_by_hand() -> None:
    """26 MoE layers: 13 on each rank. A token's copies go to n nodes, (n-1)/n of them over NICs, in F and B alike."""
    found = plan()
    (dispatch,), (combine,) = found.rows("dispatch_f"), found.rows("combine_f")
    nodes = 2
    hidden_bytes = 4096 * 2048 * 2
    assert dispatch.bytes == pytest.approx(hidden_bytes * nodes, rel=0.02)
    nic = 13 * MICRO_BATCHES * 2 * (dispatch.bytes + combine.bytes) * (nodes - 1) / nodes
    assert found.sent.nic["ep"] == pytest.approx([nic, nic], rel=1e-6)
    link = found.link("nic")
    assert link.load("ep") == pytest.approx(nic, rel=1e-6)
    assert found.view.share(link, "ep") == pytest.approx(nic / (50e9 * STEP_S), rel=1e-6)


def test_a_pipeline_sends_every_boundary_once_each_way() -> None:
    boundary = 4096 * 2048 * 2
    assert plan().sent.nic["pp"] == pytest.approx([boundary * MICRO_BATCHES] * 2)
    longer = case(parallel={"pp": 4}, training={"global_batch_size": 64})
    assert longer.sent.nic["pp"] == pytest.approx([boundary * 4, boundary * 8, boundary * 8, boundary * 4])


def test_rings_send_all_but_one_nth_of_their_bytes() -> None:
    """Gradients and parameters of each rank, dense over 32 ranks, experts over 2; NICs carry the steps between nodes."""
    found = plan()
    for rank in range(2):
        rows = [
            (message.cost.counted.num_bytes, message.cost.counted.ranks)
            for message, counts in messages_of(found.graph)
            for _ in range(int(counts[rank]))
            if message.cost.counted and message.name.startswith(("reduce_scatter", "all_gather"))
        ]
        assert {ranks for _, ranks in rows} == {32, 2}
        wanted = fsum(size * (ranks - 1) / ranks for size, ranks in rows)
        sent = found.sent.nic["dp"][rank] + found.sent.scale_up["dp"][rank]
        assert sent == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("of", [plan, dense])
def test_links_carry_what_the_gpus_send(of: Any) -> None:
    """Sums over all links of a kind are the bytes of all messages, times the links that each crosses."""
    found = of()
    gpus = found.network.num_gpus // found.graph.num_ranks
    for traffic in TRAFFICS:
        own = [pair for pair in messages_of(found.graph) if _traffic(pair[0].category) == traffic]
        for kind, field in (("scale_up", "bytes_scale_up"), ("nic", "bytes_nic")):
            link = found.link(kind)
            whole = fsum(float(counts.sum()) * getattr(message.cost, field) * gpus for message, counts in own)
            assert link.mean_load(traffic) * link.count == pytest.approx(whole, rel=1e-9)
        upper = found.link("leaf_spine")
        beyond = fsum(found.sent.leaf_up[traffic] * gpus)
        assert upper.mean_load(traffic) * upper.count == pytest.approx(beyond, rel=1e-9)
        assert (found.sent.leaf_up[traffic] <= found.sent.nic[traffic] * (1 + 1e-12)).all()
        assert (found.sent.pod_up[traffic] <= found.sent.leaf_up[traffic] * (1 + 1e-12)).all()


def _traffic(category: str) -> str:
    names = {"all_to_all": "ep", "pp_transfer": "pp", "tp_collectives": "tp"}
    return names.get(category, "dp")


def routed(network: Network, pairs: list[tuple[int, int, float]]) -> Counter[str]:
    """Bytes on the upward links of each kind of (from, to, bytes) sent over shortest paths of the switch graph."""
    graph = network_graph(network)
    graph.remove_nodes_from([name for name in graph if name[0] == "scale_up"])
    found: Counter[str] = Counter()
    layers = ["gpu", "leaf", "spine", "core"]
    for sender, receiver, num_bytes in pairs:
        path = nx.shortest_path(graph, ("gpu", sender), ("gpu", receiver))
        for lower, upper in pairwise(path):
            if layers.index(upper[0]) > layers.index(lower[0]):
                found[lower[0]] += num_bytes
    return found


@pytest.mark.parametrize("fabric", ["ib-400g-rail", "ib-400g-fattree"])
@pytest.mark.parametrize(("ep", "pp"), [(16, 2), (32, 2), (64, 1)])
def test_exchanges_and_transfers_load_links_as_flows_over_the_switch_graph(fabric: str, ep: int, pp: int) -> None:
    found = case(cluster={"fabric": fabric, "num_gpus": 128}, parallel={"ep": ep, "pp": pp})
    network, stage = found.network, 128 // pp
    flows: dict[Traffic, list[tuple[int, int, float]]] = {"ep": [], "pp": []}
    for gpu in range(128):
        rank, group = gpu // stage, gpu // ep * ep
        others = [node * 8 + gpu % 8 for node in range(group // 8, (group + ep) // 8) if node != gpu // 8]
        flows["ep"] += [(gpu, other, float(found.sent.nic["ep"][rank]) / len(others)) for other in others]
        others = [gpu + step for step in (-stage, stage) if 0 <= gpu + step < 128]
        flows["pp"] += [(gpu, other, float(found.sent.nic["pp"][rank]) / len(others)) for other in others]
    for traffic, pairs in flows.items():
        wanted = routed(network, pairs)
        for kind, lower in (("nic", "gpu"), ("leaf_spine", "leaf")):
            link = found.link(kind)
            assert link.mean_load(traffic) * link.count == pytest.approx(wanted[lower], rel=1e-9), (traffic, kind)


def test_a_plain_tree_sends_more_through_the_spine_than_rails() -> None:
    """Four hosts a leaf against thirty-two."""
    loads = [
        case(cluster={"fabric": fabric}).link("leaf_spine").load() for fabric in ("ib-400g-rail", "ib-400g-fattree")
    ]
    assert loads[0] == 0.0 < loads[1]


def test_more_nodes_a_token_are_never_less_on_nics() -> None:
    wide = [case(parallel={"ep": 32}, moe={"max_nodes_per_token": limit}).sent.nic["ep"][0] for limit in (1, 2, 3, 4)]
    assert wide == sorted(wide) and wide[0] < wide[-1]


def test_a_group_inside_a_node_leaves_nics_alone_and_tensor_parallelism_too() -> None:
    inside = case(parallel={"ep": 8})
    assert inside.sent.nic["ep"].max() == 0.0 < inside.sent.scale_up["ep"].min()
    assert inside.link("nic").message_s("ep") == 0.0 < inside.link("scale_up").message_s("ep")
    found = dense()
    assert found.sent.nic["tp"].max() == 0.0 < found.sent.scale_up["tp"].min()
    assert found.sent.nic["ep"].max() == found.sent.scale_up["ep"].max() == 0.0
    # Two layers a rank: two gathers and two reductions each of the activations, in F and in B (and B gathers inputs again).
    activations = 4096 * 4096 * 2
    per_layer = found.sent.scale_up["tp"][1] / 2 / 8 / (activations / 2)
    assert per_layer == pytest.approx(10, rel=1e-4), "and the norms' gradients once a step"


def test_the_hottest_link_is_named_with_its_share() -> None:
    view = plan().view
    hottest = view.hottest()
    assert hottest is not None
    assert view.share(hottest) == max(view.share(link) for link in view.links)
    assert dense().view.hottest("ep") is None
    link = plan().link("nic")
    assert fsum(view.share(link, traffic) for traffic in TRAFFICS) == pytest.approx(view.share(link))
    assert fsum(map(link.message_s, TRAFFICS)) == pytest.approx(link.message_s())
    doubled = network_view(plan().step, plan().graph, 2 * STEP_S)
    assert doubled.share(doubled.links[0]) == pytest.approx(view.share(view.links[0]) / 2)


SMALL: Document = {
    "model": "deepseek-v2-lite",
    "parallel": {"pp": 1, "ep": 8},
    "training": {"seq_len": 512},
    "precision": "bf16",
    "draws": 1,
}
MACHINES = [(node, "ib-800g-rail") for node in catalog.list_names("nodes")]
MACHINES += [("h100-x8", fabric) for fabric in catalog.list_names("fabrics")]


@pytest.mark.parametrize(("node", "fabric"), MACHINES)
def test_every_machine_of_the_catalogue_has_a_view(node: str, fabric: str) -> None:
    gpus = 2 * catalog.load_node(node).scale_up_domain_gpus
    found = Case(
        changed(SMALL, cluster={"node": node, "num_gpus": gpus, "fabric": fabric}, training={"global_batch_size": gpus})
    )
    view = found.view
    assert view.num_domains * view.gpus_per_domain >= view.num_gpus == gpus
    assert [link.kind for link in view.links][:2] == ["scale_up", "nic"]
    assert found.link("scale_up").load("ep") > 0 and found.link("nic").load("dp") > 0
    keys = {each.key for each in view.nodes}
    assert keys == {end for link in view.drawn for end in (link.lower, link.upper)}
    assert view.leaves >= sum(each.kind == "leaf" for each in view.nodes) > 0
    assert len(view.nodes) < 120


def test_more_layers_than_are_told_are_refused() -> None:
    deep = catalog.load_fabric("ib-400g-rail").model_dump(mode="json", exclude={"sources"}) | {"num_layers": 4}
    with pytest.raises(InputError, match=r"cluster\.fabric: 4 layers of switches"):
        case(cluster={"fabric": deep})


def test_one_domain_has_no_fabric() -> None:
    view = case(cluster={"num_gpus": 8}, parallel={"ep": 8, "pp": 1}, training={"global_batch_size": 8}).view
    assert view.fabric is None and [link.kind for link in view.links] == ["scale_up"]
    assert {node.kind for node in view.nodes} == {"gpu", "scale_up"}
    alone = case(cluster={"num_gpus": 1}, parallel={"ep": 1, "pp": 1}, training={"global_batch_size": 8}).view
    assert alone.hottest() is None
