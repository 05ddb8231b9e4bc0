"""What of a group's traffic between nodes leaves a leaf switch, and what leaves a pod, on the nodes that its ranks really have.

Nodes under one leaf are counted as in `Network.nodes_per_leaf`: blocks of neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from simulator.network.placement import IntArray
from simulator.network.topology import Network


def exchange_crossing(groups: IntArray, network: Network, nodes_per_block: int) -> float:
    """Share (0 to 1) of exchanges between nodes, uniform over the ordered pairs of each group's nodes, between blocks.

    groups: (number, size) ranks. nodes_per_block: neighbouring nodes of a block: those under a leaf, or in a pod.
    """
    between = crossing = 0
    for nodes, count in _by_nodes(groups // network.gpus_per_node):
        _, sizes = np.unique(nodes // nodes_per_block, return_counts=True)
        between += count * len(nodes) * (len(nodes) - 1)
        crossing += count * (len(nodes) ** 2 - int((sizes**2).sum()))
    return crossing / between if between else 0.0


def ring_crossing(groups: IntArray, network: Network, nodes_per_block: int) -> float:
    """The same share of the steps of rings that visit each group's nodes in order and go back to the first."""
    between = crossing = 0
    for nodes, count in _by_nodes(groups // network.gpus_per_node):
        blocks = nodes // nodes_per_block
        if len(nodes) > 1:
            between += count * len(nodes)
            crossing += count * int((blocks != np.roll(blocks, 1)).sum())
    return crossing / between if between else 0.0


def pairs_crossing(senders: IntArray, receivers: IntArray, network: Network, nodes_per_block: int) -> float:
    """The same share of sends from each of `senders` to its own of `receivers`."""
    first, second = senders // network.gpus_per_node, receivers // network.gpus_per_node
    between = first != second
    crossing = first // nodes_per_block != second // nodes_per_block
    return float(crossing.sum() / between.sum()) if between.any() else 0.0


def _by_nodes(nodes: IntArray) -> Iterator[tuple[IntArray, int]]:
    """The nodes of each group, ascending, and how many groups lie on the same. nodes: (number, size) of the members."""
    found, counts = np.unique(np.sort(nodes, axis=1), axis=0, return_counts=True)
    for members, count in zip(found, counts.tolist(), strict=True):
        yield np.unique(members), count
