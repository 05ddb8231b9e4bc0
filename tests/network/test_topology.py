"""A fabric connects what its ports allow; hops and node capacity are those of the switch graph."""

from __future__ import annotations

from collections import Counter

import networkx as nx
import pytest

from hwprofiles import catalog
from hwprofiles.schema import Fabric, Node
from simulator.errors import InputError
from simulator.network.topology import build_network, hops, network_graph, node_capacity_bytes_per_s
from simulator.network.wiring import TOPOLOGIES, Wiring

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
        latency_cross_leaf_s=3.7e-6, adaptive_routing=True,
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


def test_a_gpu_has_the_lower_of_nic_and_port() -> None:
    assert build_network(node(nic=25e9), fabric("fat_tree"), 16).nic_bytes_per_s == 25e9
    assert build_network(node(nic=100e9), fabric("fat_tree"), 16).nic_bytes_per_s == 50e9
    assert build_network(node(nics=4), fabric("fat_tree"), 16).nic_bytes_per_s == 25e9


def test_oversubscription_leaves_a_share_of_the_uplinks() -> None:
    network = build_network(node(), fabric("rail_fat_tree", over=3.0), 1024)
    assert network.cross_leaf_bytes_per_s == pytest.approx(50e9 / 3)
    assert network.wiring.down_ports / network.wiring.up_ports == pytest.approx(3.0)


def test_groups_cross_leaves_only_beyond_one_leaf() -> None:
    rail = build_network(node(), fabric("rail_fat_tree"), 2048)
    plain = build_network(node(), fabric("fat_tree"), 2048)
    assert (rail.nodes_per_leaf, plain.nodes_per_leaf) == (32, 4)
    assert rail.crossing_frac(8) == 0.0 and rail.latency_s(8) == 2.8e-6
    assert plain.crossing_frac(8) == pytest.approx(4 / 7) and plain.latency_s(8) == 3.7e-6
    assert rail.crossing_frac(2, node_stride=32) == 1.0
    assert plain.crossing_frac(6) == pytest.approx((4 * 2 + 2 * 4) / (6 * 5))


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("topology", list(TOPOLOGIES))
def test_hops_are_the_switches_on_the_shortest_path(topology: str, layers: int) -> None:
    """Over the whole family: from the GPU whose NIC carries the traffic, through fabric switches only."""
    network = build_network(node(gpus=4), fabric(topology, ports=8, layers=layers), 8 if layers == 1 else 32)
    graph = network_graph(network)
    graph.remove_nodes_from([name for name in graph if name[0] == "scale_up"])
    for a in range(0, network.num_gpus, 3):
        for b in range(network.num_gpus):
            if network.same_node(a, b):
                assert hops(network, a, b) == 0
                continue
            start = a // 4 * 4 + b % 4 if network.kind.rail_aligned else a
            path = nx.shortest_path(graph, ("gpu", start), ("gpu", b))
            switches = [name for name in path if name[0] in FABRIC_NODES]
            assert len(switches) == hops(network, a, b)


@pytest.mark.parametrize("over", [1.0, 3.0])
@pytest.mark.parametrize("topology", list(TOPOLOGIES))
def test_node_capacity_is_the_maximum_flow(topology: str, over: float) -> None:
    network = build_network(node(gpus=4), fabric(topology, ports=8, over=over), 32)
    graph = network_graph(network)
    for start, end in ((0, 1), (0, 7), (2, 5)):
        flow = graph.copy()
        for i in range(4):
            flow.add_edge("source", ("gpu", 4 * start + i), bytes_per_s=float("inf"))
            flow.add_edge(("gpu", 4 * end + i), "sink", bytes_per_s=float("inf"))
        flow.remove_nodes_from([name for name in flow if name[0] == "scale_up"])
        most, _ = nx.maximum_flow(flow, "source", "sink", capacity="bytes_per_s")
        assert node_capacity_bytes_per_s(network, start, end) == pytest.approx(most)


def test_rails_of_a_rack_scale_domain() -> None:
    """18 trays of 4 GPUs: one node of 72, four rails, traffic leaves over the receiver's rail."""
    network = build_network(node(gpus=4, domain=72), fabric("rail_fat_tree"), 576)
    assert (network.gpus_per_node, network.wiring.rails, network.num_nodes) == (72, 4, 8)
    assert hops(network, 0, 71) == 0 and hops(network, 0, 575) >= 1


def test_graphs_are_for_small_cases() -> None:
    with pytest.raises(ValueError, match="at most 4096"):
        network_graph(build_network(node(), fabric("multi_plane_fat_tree"), 4104))
    with pytest.raises(ValueError, match="twice"):
        node_capacity_bytes_per_s(build_network(node(), fabric("fat_tree"), 16), 1, 1)


@pytest.mark.parametrize("fabric_name", catalog.list_names("fabrics"))
@pytest.mark.parametrize("node_name", catalog.list_names("nodes"))
def test_every_node_of_the_catalogue_runs_on_every_fabric(node_name: str, fabric_name: str) -> None:
    """Two domains connect, over one leaf or a spine, and a GPU never has more than its NIC or its port."""
    machine, net = catalog.load_node(node_name), catalog.load_fabric(fabric_name)
    network = build_network(machine, net, 2 * machine.scale_up_domain_gpus)
    assert network.num_nodes == 2
    assert network.nic_bytes_per_s <= min(machine.nic_bytes_per_s, net.port_bytes_per_s)
    assert 1 <= hops(network, 0, network.num_gpus - 1) <= 2 * net.num_layers - 1
    most = network.gpus_per_node * network.nic_bytes_per_s
    assert 0 < node_capacity_bytes_per_s(network, 0, 1) <= most * (1 + 1e-9)


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
    nics = Counter(kind.leaf(wiring, gpu) for gpu in range(kind.max_gpus(wiring)))
    assert max(nics.values()) <= wiring.down_ports
    trees = len({tree for tree, _ in nics})
    assert sum(nics.values()) == kind.max_gpus(wiring) <= trees * wiring.tree_endpoints
    if topology != "rail_fat_tree" or wiring.tree_endpoints >= 8 * wiring.down_ports:
        assert sum(nics.values()) > trees * wiring.tree_endpoints / 2
