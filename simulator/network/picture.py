"""A network folded by symmetry, small enough to be drawn: a few scale-up domains, and the switches above them.

Domains lie alike: the first, its neighbour and the last are drawn, of each a few GPUs. Spines of one pod are one drawn switch,
and so are the core switches of one tree: each drawn thing says how many it stands for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from simulator.network.topology import Network, network_graph

LinkKind = Literal["scale_up", "nic", "leaf_spine", "spine_core"]
"""A GPU's links into its scale-up domain; its NICs, up to the leaf switch; links between switches."""
NodeKind = Literal["scale_up", "gpu", "leaf", "spine", "core"]

LAYERS: Final[tuple[NodeKind, ...]] = ("scale_up", "gpu", "leaf", "spine", "core")
"""From the bottom of the picture to its top."""
LINKS: Final[Mapping[str, LinkKind]] = {
    "scale_up": "scale_up",
    "gpu": "nic",
    "leaf": "leaf_spine",
    "spine": "spine_core",
}
"""The links that go up from a kind of node."""
MAX_DRAWN_GPUS: Final = 8
"""Of a domain."""

Name = tuple[Any, ...]
"""A node of `network_graph`: its kind, then numbers."""


@dataclass(frozen=True, slots=True)
class PictureNode:
    """place: its numbers within its kind. of: the domain of a GPU or scale-up network, the tree of a switch. times: switches
    that it stands for.
    """

    kind: NodeKind
    place: tuple[int, ...]
    of: int
    times: int = 1

    @property
    def key(self) -> str:
        """Unique: kind and numbers."""
        return " ".join((self.kind, *map(str, self.place)))


@dataclass(frozen=True, slots=True)
class PictureLink:
    """From a node to one of the layer above."""

    kind: LinkKind
    lower: str
    upper: str


@dataclass(frozen=True, slots=True)
class Picture:
    """Nodes and links, layer by layer."""

    nodes: tuple[PictureNode, ...]
    links: tuple[PictureLink, ...]


def picture(network: Network) -> Picture:
    """The folded network; a job in one domain has no fabric in it. Raises ValueError for more than three layers."""
    domains = sorted({0, min(1, network.num_nodes - 1), network.num_nodes - 1})
    graph = network_graph(network, [gpu for domain in domains for gpu in _drawn_gpus(network, domain)])
    has_fabric = network.num_nodes > 1
    names = [name for name in graph if has_fabric or name[0] in ("gpu", "scale_up")]
    drawn = {name: _node(network, name) for name in names}
    nodes = sorted(set(drawn.values()), key=lambda node: (LAYERS.index(node.kind), node.place))
    pairs = {(drawn[a], drawn[b]) for a, b in graph.edges if a in drawn and b in drawn}
    order = {node: place for place, node in enumerate(nodes)}
    upwards = sorted(tuple(sorted((order[a], order[b]))) for a, b in pairs)
    links = [PictureLink(LINKS[nodes[low].kind], nodes[low].key, nodes[high].key) for low, high in upwards]
    return Picture(tuple(nodes), tuple(links))


def _drawn_gpus(network: Network, domain: int) -> range:
    first = domain * network.gpus_per_node
    return range(first, min(first + min(network.gpus_per_node, MAX_DRAWN_GPUS), network.num_gpus))


def _node(network: Network, name: Name) -> PictureNode:
    """What a node of the graph is drawn as: spines of a pod, and cores of a tree, as one."""
    kind, first, *rest = name
    if kind == "gpu":
        return PictureNode(kind, (first,), first // network.gpus_per_node)
    if kind == "spine":
        return PictureNode(kind, (first, rest[0]), first, network.wiring.up_ports)
    if kind == "core":
        return PictureNode(kind, (first,), first, network.wiring.up_ports * (network.wiring.switch_ports // 2))
    return PictureNode(kind, name[1:], first)
