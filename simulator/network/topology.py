"""The network of one cluster: what one GPU can send, one direction, and over how many switches.

A node here is a scale-up domain: GPUs joined by NVLink or its like (8 GPUs of a host, or the 72 of an NVL72).
Everything between nodes goes over NICs. Facts come from a node and a fabric of hwprofiles; rates are datasheet rates,
what software achieves is in the stack.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hwprofiles import catalog
from hwprofiles.schema import Fabric, Node, Routing
from simulator.errors import InputError, Problem
from simulator.network import topologies as _topologies  # noqa: F401  registers the family's members
from simulator.network.wiring import TOPOLOGIES, Topology, Wiring
from simulator.registry import UnknownName

if TYPE_CHECKING:
    import networkx as nx

MAX_GRAPH_GPUS = 4096


@dataclass(frozen=True, slots=True)
class Network:
    """What connects the GPUs of a cluster. Rates are bytes/s of one GPU, one direction.

    num_gpus: GPUs of the cluster; gpus_per_node: GPUs used of a scale-up domain (the last one may be filled in part);
    host_gpus: GPUs of one host, which share its NICs (wiring.rails of them).
    scale_up_bytes_per_s: into the scale-up network, to all peers together; scale_up_peer_bytes_per_s: to one of them.
    nic_bytes_per_s: of a GPU while all of its host send: the lower of NIC and fabric port, times NICs over GPUs.
    latency_same_leaf_s, latency_cross_leaf_s, latency_cross_pod_s: one small message between nodes, NICs included.
    routing: ecmp, flows are hashed to uplinks; else they spread evenly.
    Invariant: num_gpus is at most what the fabric connects, unless one node holds them all.
    """

    num_gpus: int
    gpus_per_node: int
    host_gpus: int
    scale_up_bytes_per_s: float
    scale_up_peer_bytes_per_s: float
    nic_bytes_per_s: float
    latency_same_leaf_s: float
    latency_cross_leaf_s: float
    latency_cross_pod_s: float
    routing: Routing
    topology: str
    wiring: Wiring

    @property
    def num_nodes(self) -> int:
        """Nodes that hold the GPUs."""
        return -(-self.num_gpus // self.gpus_per_node)

    @property
    def nodes_per_leaf(self) -> int:
        """Consecutive nodes under the same leaf switches; at least 1."""
        hosts = self.kind.hosts_per_leaf(self.wiring)
        return max(1, hosts * self.host_gpus // self.gpus_per_node)

    @property
    def nodes_per_pod(self) -> int:
        """Consecutive nodes whose leaves the second layer joins; all where there is no third layer; at least 1."""
        wiring, first, last = self.wiring, 0, self.num_nodes * self.gpus_per_node // self.host_gpus
        if wiring.num_layers < 3:
            return self.num_nodes
        while last - first > 1:
            middle = (first + last) // 2
            inside = wiring.pod(self.kind.leaf(wiring, middle * wiring.rails)[1], 2) == 0
            first, last = (middle, last) if inside else (first, middle)
        return max(1, last * self.host_gpus // self.gpus_per_node)

    @property
    def kind(self) -> Topology:
        """The family member that answers questions about paths."""
        return TOPOLOGIES[self.topology]

    def nic_bytes_per_s_of(self, senders: int) -> float:
        """Rate of one of `senders` neighbouring GPUs of a host, from 1 to all, while the others are idle.

        A GPU reaches its own NICs (NCCL takes those nearest on PCIe, turn by turn by channel: ncclTopoGetLocalNet of
        nccl src/graph/topo.cc): several where the host has more NICs than GPUs, one that it shares with neighbours
        where it has fewer. NICs of idle GPUs are out of its reach.
        """
        nics, gpus = self.wiring.rails, self.host_gpus
        reached = -(-senders * nics // gpus)
        return self.nic_bytes_per_s * (gpus / nics) * min(max(1.0, nics / gpus), reached / senders)

    def crossing_frac(self, nodes: int, node_stride: int = 1) -> float:
        """Share of a group's node-to-node traffic, uniform over pairs of its nodes, that leaves a leaf.

        nodes: nodes of the group, its first under a leaf's first; node_stride: distance in nodes from one to the next.
        0 where one leaf holds the group.
        """
        under_one_leaf = max(1, -(-self.nodes_per_leaf // node_stride))
        if nodes <= under_one_leaf:
            return 0.0
        full, rest = divmod(nodes, under_one_leaf)
        crossing_pairs = full * under_one_leaf * (nodes - under_one_leaf) + rest * (nodes - rest)
        return crossing_pairs / (nodes * (nodes - 1))

    def latency_s(self, nodes: int, node_stride: int = 1) -> float:
        """Latency of one small message between nodes of a group so large: the worst pair's."""
        if self.crossing_frac(nodes, node_stride) == 0.0:
            return self.latency_same_leaf_s
        is_far = (nodes - 1) * node_stride >= self.nodes_per_pod
        return self.latency_cross_pod_s if is_far else self.latency_cross_leaf_s


def build_network(node: Node, fabric: Fabric, num_gpus: int, gpus_per_domain: int | None = None) -> Network:
    """The network of `num_gpus` GPUs in such nodes on such a fabric.

    gpus_per_domain: GPUs used of each scale-up domain; None: all.

    Raises InputError for an unknown topology, planes that it has not, for num_gpus < 1, and where the fabric does not
    connect so many GPUs.
    """
    if num_gpus < 1:
        raise InputError([Problem("", "cluster.num_gpus", f"{num_gpus} GPUs; allowed: 1 or more")])
    domain = gpus_per_domain or node.scale_up_domain_gpus
    nics_per_gpu = node.nics_per_node / node.gpus_per_node
    limit, wiring = _max_gpus(node, fabric), _wiring(node, fabric)
    if num_gpus > max(limit, domain):
        text = (
            f"{num_gpus} GPUs, but fabric {fabric.name!r} connects at most {limit} "
            f"({wiring.num_layers} layers of {wiring.switch_ports}-port switches, {wiring.num_planes} planes); "
            f"take a fabric with more layers, ports or planes{_larger_fabrics(node, num_gpus)}"
        )
        raise InputError([Problem("", "cluster.num_gpus", text)])
    return Network(
        num_gpus=num_gpus,
        gpus_per_node=domain,
        host_gpus=node.gpus_per_node,
        scale_up_bytes_per_s=node.scale_up_bytes_per_s,
        scale_up_peer_bytes_per_s=node.scale_up_peer_bytes_per_s or node.scale_up_bytes_per_s,
        nic_bytes_per_s=min(node.nic_bytes_per_s, fabric.port_bytes_per_s) * nics_per_gpu,
        latency_same_leaf_s=fabric.latency_same_leaf_s,
        latency_cross_leaf_s=fabric.latency_cross_leaf_s,
        latency_cross_pod_s=fabric.latency_cross_pod_s or fabric.latency_cross_leaf_s,
        routing=fabric.routing,
        topology=fabric.topology,
        wiring=wiring,
    )


def _wiring(node: Node, fabric: Fabric) -> Wiring:
    """How the NICs of such nodes meet the fabric's switches."""
    return Wiring(
        rails=node.nics_per_node,
        num_planes=fabric.num_planes,
        switch_ports=fabric.switch_ports,
        num_layers=fabric.num_layers,
        oversubscription=fabric.oversubscription,
        port_bytes_per_s=fabric.port_bytes_per_s,
    )


def _max_gpus(node: Node, fabric: Fabric) -> int:
    """GPUs of such nodes that the fabric connects. Raises InputError as _kind_of."""
    return _kind_of(fabric).max_nics(_wiring(node, fabric)) * node.gpus_per_node // node.nics_per_node


def _larger_fabrics(node: Node, num_gpus: int) -> str:
    """': roce-400g-rail-3layer' with the catalogue's fabrics that connect so many GPUs of such nodes; '' where none does."""
    fabrics = map(catalog.load_fabric, catalog.list_names("fabrics"))
    found = [fabric.name for fabric in fabrics if _max_gpus(node, fabric) >= num_gpus]
    return f": {', '.join(found)}" if found else ""


def _kind_of(fabric: Fabric) -> Topology:
    """The fabric's topology. Raises InputError: unknown, or another number of planes than it has."""
    try:
        kind = TOPOLOGIES[fabric.topology]
    except UnknownName as error:
        raise InputError([Problem("", "cluster.fabric", f"{fabric.name}: {error}")]) from error
    if kind.has_planes != (fabric.num_planes > 1):
        text = f"{fabric.name}: num_planes {fabric.num_planes} with topology {fabric.topology}"
        allowed = "needs several" if kind.has_planes else "has 1"
        raise InputError([Problem("", "cluster.fabric", f"{text}, which {allowed}")])
    return kind


def network_graph(network: Network, gpus: Collection[int] | None = None) -> nx.Graph:
    """GPUs, scale-up switches and fabric switches as a graph; edge attribute `bytes_per_s` is one direction.

    gpus: those that are in it, with what they reach; None: all.
    Nodes: ("gpu", i), ("scale_up", node), ("leaf", tree, i), ("spine", tree, pod, i), ("core", tree, spine, i).
    For pictures and checks: raises ValueError for more than 4,096 GPUs or three layers.
    """
    import networkx as nx  # here: it takes longer to load than most steps need to be placed

    gpus = range(network.num_gpus) if gpus is None else gpus
    if network.wiring.num_layers > 3:
        raise ValueError(f"{network.wiring.num_layers} layers; a graph is drawn for at most 3")
    if len(gpus) > MAX_GRAPH_GPUS:
        raise ValueError(f"{len(gpus)} GPUs; a graph is drawn for at most {MAX_GRAPH_GPUS}")
    graph = nx.Graph()
    leaves = set()
    for gpu in gpus:
        own = _leaves_of(network, gpu)
        leaves.update(own)
        for leaf in own:
            rate = network.nic_bytes_per_s * own.count(leaf) / len(own)
            graph.add_edge(("gpu", gpu), ("leaf", *leaf), bytes_per_s=rate)
        scale_up = ("scale_up", gpu // network.gpus_per_node)
        graph.add_edge(("gpu", gpu), scale_up, bytes_per_s=network.scale_up_bytes_per_s)
    if network.wiring.num_layers > 1:
        _add_upper_layers(graph, network, sorted(leaves))
    return graph


def _leaves_of(network: Network, gpu: int) -> list[tuple[int, int]]:
    """(tree, leaf) of each NIC that the GPU reaches: GPU i of g has NICs i*n/g to (i+1)*n/g of n, at least one."""
    host, place = divmod(gpu, network.host_gpus)
    nics, gpus = network.wiring.rails, network.host_gpus
    first = place * nics // gpus
    last = max(first + 1, (place + 1) * nics // gpus)
    return [network.kind.leaf(network.wiring, host * nics + nic) for nic in range(first, last)]


def _add_upper_layers(graph: nx.Graph, network: Network, leaves: list[tuple[int, int]]) -> None:
    """A link from every leaf to each spine of its pod; with three layers, from spine i of every pod to core group i."""
    wiring = network.wiring
    port = wiring.port_bytes_per_s
    spines = set()
    for tree, leaf in leaves:
        for i in range(wiring.up_ports):
            spine = ("spine", tree, wiring.pod(leaf, 2), i)
            spines.add(spine)
            graph.add_edge(("leaf", tree, leaf), spine, bytes_per_s=port)
    if wiring.num_layers == 3:
        for _, tree, pod, i in spines:
            for j in range(wiring.switch_ports // 2):
                graph.add_edge(("spine", tree, pod, i), ("core", tree, i, j), bytes_per_s=port)
