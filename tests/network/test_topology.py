"""A fabric connects what its ports allow; what crosses its leaves is what the switch graph says."""

from __future__ import annotations

from collections import Counter

import networkx as nx
import pytest

from hwprofiles import catalog
from hwprofiles.schema import Fabric, Node
from simulator.errors import InputError
from simulator.network.topology import build_network, network_graph
from simulator.network.wiring import TOPOLOGIES, Wiring
from tests.engine.rates import max_min_rates

FABRIC_NODES = {"leaf", "spine", "core"}


def node(gpus: int = 8, domain: int | None = None, nics: int | None = None, nic: float = 50e9) -> Node:
    return Node(
        name="node", gpu="gpu", gpus_per_node=gpus, scale_up_name="NVLink", scale_up_bytes_per_s=200e9,
        scale_up_domain_gpus=domain or gpus, nic_bytes_per_s=nic, nics_per_node=nics or gpus,
    )  # fmt: skip


def fabric(
    topology: str, ports: int = 64, layers: int = 2, over: float = 1.0, planes: int = 1, port: float = 50e9
) -> Fabric:
    planes = max(planes, 8) if topology == "multi_plane_fat_tree" else planes
    return Fabric(
        name="fabric", technology="infiniband", topology=topology, num_planes=planes, port_bytes_per_s=port,
        switch_ports=ports, num_layers=layers, oversubscription=over, latency_same_leaf_s=2.8e-6,
        latency_cross_leaf_s=3.7e-6, routing="adaptive",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("topology", "layers", "limit"),
    [("multi_plane_fat_tree", 2, 16384), ("rail_fat_tree", 2, 2048), ("fat_tree", 2, 2048), ("fat_tree", 3, 65536)],
)
def test_published_sizes_of_64_port_fabrics(topology: str, layers: int, limit: int) -> None:
    """arXiv:2505.09343 Table 3: 2,048 endpoints in two layers, 16,384 in eight planes of them, 65,536 in three
    layers."""
    assert build_network(node(), fabric(topology, layers=layers), limit).num_gpus == limit
    with pytest.raises(InputError, match=f"at most {limit}"):
        build_network(node(), fabric(topology, layers=layers), limit + 1)


def test_one_node_needs_no_fabric_and_zero_gpus_are_refused() -> None:
    small = fabric("fat_tree", ports=2, layers=1)
    assert build_network(node(), small, 8).num_nodes == 1
    with pytest.raises(InputError, match="at most 2"):
        build_network(node(), small, 9)
    with pytest.raises(InputError, match="num_gpus"):
        build_network(node(), small, 0)


@pytest.mark.parametrize("name", catalog.list_names("fabrics"))
def test_every_fabric_of_the_catalogue_is_of_a_known_topology_with_its_planes(name: str) -> None:
    known = catalog.load_fabric(name)
    assert build_network(node(), known, 16).topology in TOPOLOGIES
    one_or_many = {"num_planes": 1 if known.num_planes > 1 else 8}
    with pytest.raises(InputError, match=f"cluster.fabric: {name}: num_planes"):
        build_network(node(), known.model_copy(update=one_or_many), 16)
    with pytest.raises(InputError, match=f"cluster.fabric: {name}: topology 'torus' is not modelled yet"):
        build_network(node(), known.model_copy(update={"topology": "torus"}), 16)


def test_a_gpu_has_the_lower_of_nic_and_port() -> None:
    assert build_network(node(nic=25e9), fabric("fat_tree"), 16).nic_bytes_per_s == 25e9
    assert build_network(node(nic=100e9), fabric("fat_tree"), 16).nic_bytes_per_s == 50e9
    assert build_network(node(nics=4), fabric("fat_tree"), 16).nic_bytes_per_s == 25e9


def test_oversubscription_leaves_a_share_of_the_uplinks() -> None:
    network = build_network(node(), fabric("rail_fat_tree", over=3.0), 1024)
    assert network.wiring.down_ports / network.wiring.up_ports == pytest.approx(3.0)


def test_groups_cross_leaves_only_beyond_one_leaf() -> None:
    rail = build_network(node(), fabric("rail_fat_tree"), 2048)
    plain = build_network(node(), fabric("fat_tree"), 2048)
    assert (rail.nodes_per_leaf, plain.nodes_per_leaf) == (32, 4)
    assert rail.crossing_frac(8) == 0.0 and rail.latency_s(8) == 2.8e-6
    assert plain.crossing_frac(8) == pytest.approx(4 / 7) and plain.latency_s(8) == 3.7e-6
    assert rail.crossing_frac(2, node_stride=32) == 1.0
    assert plain.crossing_frac(6) == pytest.approx((4 * 2 + 2 * 4) / (6 * 5))


@pytest.mark.parametrize("topology", list(TOPOLOGIES))
@pytest.mark.parametrize("nodes", [2, 3, 5, 12])
def test_crossing_share_is_that_of_the_switch_graph(topology: str, nodes: int) -> None:
    """Over the whole family: pairs of nodes whose GPUs of one rail are more than one switch apart."""
    network = build_network(node(gpus=4), fabric(topology, ports=16), 64)
    graph = network_graph(network)
    graph.remove_nodes_from([name for name in graph if name[0] == "scale_up"])
    pairs = [(a, b) for a in range(nodes) for b in range(nodes) if a != b]
    paths = [nx.shortest_path(graph, ("gpu", 4 * a), ("gpu", 4 * b)) for a, b in pairs]
    crossing = [path for path in paths if sum(name[0] in FABRIC_NODES for name in path) > 1]
    assert network.crossing_frac(nodes) == pytest.approx(len(crossing) / len(pairs))


@pytest.mark.parametrize("over", [1.0, 3.0])
@pytest.mark.parametrize("topology", list(TOPOLOGIES))
def test_a_leaf_sends_what_its_nics_and_its_uplinks_let_through(topology: str, over: float) -> None:
    """Maximum flow from the GPUs under one leaf to all others."""
    network = build_network(node(gpus=4), fabric(topology, ports=16, over=over), 128)
    graph = network_graph(network)
    graph.remove_nodes_from([name for name in graph if name[0] == "scale_up"])
    leaf = [network.kind.leaf(network.wiring, gpu) for gpu in range(network.num_gpus)]
    for gpu, place in enumerate(leaf):
        ends = ("source", ("gpu", gpu)) if place == leaf[0] else (("gpu", gpu), "sink")
        graph.add_edge(*ends, bytes_per_s=float("inf"))
    most, _ = nx.maximum_flow(graph, "source", "sink", capacity="bytes_per_s")
    uplinks = network.wiring.up_ports * network.wiring.port_bytes_per_s
    assert most == pytest.approx(min(leaf.count(leaf[0]) * network.nic_bytes_per_s, uplinks))


def test_rails_of_a_rack_scale_domain() -> None:
    """18 trays of 4 GPUs: one node of 72, four rails."""
    network = build_network(node(gpus=4, domain=72), fabric("rail_fat_tree"), 576)
    assert (network.gpus_per_node, network.wiring.rails, network.num_nodes) == (72, 4, 8)
    # A leaf has the NICs of one rail of 32 trays: one whole rack, so that every other one is beyond it.
    assert network.nodes_per_leaf == 1 and network.crossing_frac(2) == 1.0


def test_a_node_filled_in_part_is_a_node() -> None:
    assert [build_network(node(), fabric("fat_tree"), gpus).num_nodes for gpus in (8, 9, 12, 16)] == [1, 2, 2, 2]


def test_nodes_of_a_distant_group_are_counted_where_they_stand() -> None:
    """32 nodes a leaf; of every fifth one, 0, 5 … 30 are under it: seven, and the eighth stands at 35."""
    network = build_network(node(), fabric("rail_fat_tree"), 2048)
    assert network.crossing_frac(7, node_stride=5) == 0.0
    assert network.crossing_frac(8, node_stride=5) == pytest.approx(2 * 7 / (8 * 7))


@pytest.mark.parametrize("topology", list(TOPOLOGIES))
def test_an_only_switch_has_all_ports_down_and_no_uplinks(topology: str) -> None:
    wiring = Wiring(4, 1, 16, 1, 1.0, 50e9)
    assert (wiring.down_ports, wiring.up_ports, wiring.tree_endpoints) == (16, 0, 16)
    network = build_network(node(gpus=4), fabric(topology, ports=16, layers=1), 16)
    assert network.crossing_frac(network.num_nodes) == 0.0


def test_a_full_tree_of_three_layers_has_the_switches_of_a_clos_network() -> None:
    """Of k ports: k pods of k switches, and k²/4 in the core (Al-Fares et al., SIGCOMM 2008, section 2.2.1)."""
    graph = network_graph(build_network(node(gpus=2), fabric("fat_tree", ports=4, layers=3), 16))
    layers = Counter(name[0] for name in graph if name[0] in FABRIC_NODES)
    assert layers == {"leaf": 8, "spine": 8, "core": 4}
    assert all(graph.degree(name) == 4 for name in graph if name[0] in FABRIC_NODES)


def test_links_of_the_graph_have_the_rates_of_the_network() -> None:
    """A GPU's link into its node, its NIC, and a port between switches."""
    network = build_network(node(nic=25e9), fabric("fat_tree", ports=16), 64)
    rates = {frozenset((a[0], b[0])): data["bytes_per_s"] for a, b, data in network_graph(network).edges(data=True)}
    links = (("gpu", "scale_up"), 200e9), (("gpu", "leaf"), 25e9), (("leaf", "spine"), 50e9)
    assert rates == {frozenset(ends): rate for ends, rate in links}


def test_graphs_are_for_small_cases() -> None:
    with pytest.raises(ValueError, match="at most 4096"):
        network_graph(build_network(node(), fabric("multi_plane_fat_tree"), 4104))


@pytest.mark.parametrize("fabric_name", catalog.list_names("fabrics"))
@pytest.mark.parametrize("node_name", catalog.list_names("nodes"))
def test_every_node_of_the_catalogue_runs_on_every_fabric(node_name: str, fabric_name: str) -> None:
    """Two domains connect, and a GPU never has more than its NIC or its port."""
    machine, net = catalog.load_node(node_name), catalog.load_fabric(fabric_name)
    network = build_network(machine, net, 2 * machine.scale_up_domain_gpus)
    assert network.num_nodes == 2
    assert network.nic_bytes_per_s <= min(machine.nic_bytes_per_s, net.port_bytes_per_s)


def test_a_mesh_gives_a_peer_a_link_of_its_own() -> None:
    """Without a switch a GPU reaches one peer at the rate of one link, all of them at the sum."""
    mesh = node().model_copy(update={"scale_up_peer_bytes_per_s": 25e9})
    rates = [build_network(machine, fabric("fat_tree"), 16) for machine in (node(), mesh)]
    assert [network.scale_up_peer_bytes_per_s for network in rates] == [200e9, 25e9]
    assert [network.scale_up_bytes_per_s for network in rates] == [200e9, 200e9]


@pytest.mark.parametrize("over", [1.0, 3.0])
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("planes", [1, 2, 4, 8])
@pytest.mark.parametrize("topology", list(TOPOLOGIES))
def test_a_full_fabric_has_a_port_for_every_nic(topology: str, planes: int, layers: int, over: float) -> None:
    """The GPUs of a full fabric fill every leaf port of the trees that it has, and none twice."""
    wiring = Wiring(8, planes, 16, layers, over, 50e9)
    kind = TOPOLOGIES[topology]
    nics = Counter(kind.leaf(wiring, gpu) for gpu in range(kind.max_nics(wiring)))
    assert max(nics.values()) <= wiring.down_ports
    trees = len({tree for tree, _ in nics})
    assert sum(nics.values()) == kind.max_nics(wiring) <= trees * wiring.tree_endpoints
    if topology != "rail_fat_tree" or wiring.tree_endpoints >= 8 * wiring.down_ports:
        assert sum(nics.values()) > trees * wiring.tree_endpoints / 2


@pytest.mark.parametrize(
    ("nics", "rates"),
    [
        (8, (50, 50, 50, 50)),
        (32, (200, 200, 200, 200)),
        (4, (50, 25, 25, 25)),
        (2, (50, 25, 12.5, 12.5)),
        (12, (75, 75, 75, 75)),
    ],
)
def test_neighbours_share_the_nics_that_they_reach(nics: int, rates: tuple[float, ...]) -> None:
    """One, two, four and eight GPUs of a host of eight that send: each has its own NICs, or a share of its nearest."""
    network = build_network(node(nics=nics), fabric("fat_tree"), 16)
    found = [network.nic_bytes_per_s_of(senders) / 1e9 for senders in (1, 2, 4, 8)]
    assert found == pytest.approx(rates)
    assert network.nic_bytes_per_s_of(8) == network.nic_bytes_per_s


@pytest.mark.parametrize("senders", range(1, 9))
@pytest.mark.parametrize("nics", [1, 2, 4, 8, 16, 32])
def test_shares_are_max_min_fair_over_the_nics_of_each_gpu(nics: int, senders: int) -> None:
    """Max-min over links by hand: GPU i of 8 reaches NIC i * n // 8, or its n / 8 own ones as flows of their own."""
    network = build_network(node(nics=nics), fabric("fat_tree"), 16)
    per_gpu = max(1, nics // 8)
    own = [[gpu * nics // 8 + each for each in range(per_gpu)] for gpu in range(senders)]
    uses = [[nic == each for each in range(nics)] for reached in own for nic in reached]
    rates = max_min_rates([50e9] * nics, uses).reshape(senders, per_gpu).sum(axis=1)
    found = network.nic_bytes_per_s_of(senders)
    assert found == pytest.approx(float(rates.mean()), rel=1e-9)
    if senders * nics % 8 == 0:
        assert found == pytest.approx(float(rates.min()), rel=1e-9), "each NIC has as many"


def test_more_nics_and_more_ports_never_carry_less() -> None:
    rates = [build_network(node(nics=nics), fabric("fat_tree"), 16).nic_bytes_per_s_of(4) for nics in (1, 2, 4, 8, 16)]
    assert rates == sorted(rates) and rates[0] < rates[-1]


def test_nics_take_the_ports_of_a_fabric_not_gpus() -> None:
    """2,048 ports: hosts of eight GPUs with four NICs use half as many, with sixteen twice."""
    for nics, limit in ((4, 4096), (8, 2048), (16, 1024)):
        assert build_network(node(nics=nics), fabric("fat_tree"), limit).num_gpus == limit
        with pytest.raises(InputError, match=f"at most {limit}"):
            build_network(node(nics=nics), fabric("fat_tree"), limit + 8)


@pytest.mark.parametrize("name", ["ib-800g-rail-3layer", "roce-400g-rail-3layer"])
def test_a_quarter_of_a_million_gpus_are_connected_by_three_layers(name: str) -> None:
    known = catalog.load_fabric(name)
    network = build_network(catalog.load_node("h100-x8"), known, 262_144)
    assert network.latency_s(network.num_nodes) == known.latency_cross_pod_s
    assert network.latency_s(2) == known.latency_same_leaf_s


@pytest.mark.parametrize("topology", list(TOPOLOGIES))
def test_latencies_are_those_of_the_switches_on_the_way(topology: str) -> None:
    """Hosts of two GPUs in three layers of eight-port switches: one, three or five switches between hosts 0 and n."""
    layered = fabric(topology, ports=8, layers=3).model_copy(update={"latency_cross_pod_s": 4.6e-6, "num_planes": 1})
    if topology == "multi_plane_fat_tree":
        layered = layered.model_copy(update={"num_planes": 2})
    network = build_network(node(gpus=2), layered, 64)
    graph = network_graph(network)
    graph.remove_nodes_from([name for name in graph if name[0] == "scale_up"])
    for host in range(1, network.num_nodes):
        path = nx.shortest_path(graph, ("gpu", 0), ("gpu", 2 * host))
        switches = sum(name[0] in FABRIC_NODES for name in path)
        assert network.latency_s(2, node_stride=host) == {1: 2.8e-6, 3: 3.7e-6, 5: 4.6e-6}[switches], host


def test_a_fabric_too_small_names_those_of_the_catalogue_that_are_large_enough() -> None:
    node = catalog.load_node("h100-x8")
    with pytest.raises(InputError) as caught:
        build_network(node, catalog.load_fabric("ib-400g-rail"), 100_000)
    offered = caught.value.problems[0].message.partition("ports or planes: ")[2].split(", ")
    assert offered == sorted({"ib-800g-rail-3layer", "roce-400g-rail-3layer"} | set(offered))
    for name in offered:
        build_network(node, catalog.load_fabric(name), 100_000)
    with pytest.raises(InputError, match=r"ports or planes$"):
        build_network(node, catalog.load_fabric("ib-400g-rail"), 10_000_000)
