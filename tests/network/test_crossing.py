"""Shares of traffic that leave a block of neighbouring nodes, by hand; what is drawn of a network."""

from __future__ import annotations

import numpy as np
import pytest

from hwprofiles import catalog
from simulator.network.crossing import exchange_crossing, pairs_crossing, ring_crossing
from simulator.network.picture import LAYERS, MAX_DRAWN_GPUS, picture
from simulator.network.topology import Network, build_network


def network(gpus: int = 64, node: str = "h100-x8", fabric: str = "ib-400g-rail") -> Network:
    return build_network(catalog.load_node(node), catalog.load_fabric(fabric), gpus)


def on_nodes(*nodes: int) -> np.ndarray:
    return np.array([[node * 8 for node in nodes]])


def test_exchanges_between_all_pairs_of_nodes() -> None:
    """Nodes 0, 1, 2 and 5 in blocks of four: of twelve ordered pairs the six with node 5 cross."""
    assert exchange_crossing(on_nodes(0, 1, 2, 5), network(), 4) == pytest.approx(6 / 12)
    assert exchange_crossing(on_nodes(0, 1, 2, 3), network(), 4) == 0.0
    assert exchange_crossing(on_nodes(3), network(), 4) == 0.0
    assert exchange_crossing(np.array([[0, 1, 8, 9]]), network(), 1) == 1.0


def test_rings_cross_twice_however_many_nodes_they_have() -> None:
    assert ring_crossing(on_nodes(0, 1, 2, 5), network(), 4) == pytest.approx(2 / 4)
    assert ring_crossing(on_nodes(0, 4), network(), 4) == 1.0
    assert ring_crossing(on_nodes(0, 1, 2, 3), network(), 4) == 0.0
    assert ring_crossing(on_nodes(6), network(), 4) == 0.0


def test_groups_weigh_by_their_number() -> None:
    """Three groups across a block's edge, on the same nodes, and one inside: of eight ordered pairs six cross."""
    groups = np.array([[24, 32], [25, 33], [26, 34], [0, 8]])
    assert exchange_crossing(groups, network(), 4) == pytest.approx(6 / 8)
    assert ring_crossing(groups, network(), 4) == pytest.approx(6 / 8)


def test_sends_inside_a_node_do_not_count() -> None:
    senders, receivers = np.array([0, 1, 8, 24]), np.array([2, 9, 16, 32])
    assert pairs_crossing(senders, receivers, network(), 4) == pytest.approx(1 / 3)
    assert pairs_crossing(senders[:1], receivers[:1], network(), 4) == 0.0


MACHINES = [(node, "ib-400g-rail") for node in catalog.list_names("nodes")]
MACHINES += [("h100-x8", fabric) for fabric in catalog.list_names("fabrics")]


@pytest.mark.parametrize(("node", "fabric"), MACHINES)
def test_a_folded_picture_reaches_from_every_drawn_gpu_to_the_top(node: str, fabric: str) -> None:
    drawn = picture(network(4 * catalog.load_node(node).scale_up_domain_gpus, node, fabric))
    kinds = {each.key: each.kind for each in drawn.nodes}
    assert len(kinds) == len(drawn.nodes)
    for link in drawn.links:
        assert LAYERS.index(kinds[link.upper]) == LAYERS.index(kinds[link.lower]) + 1
    for key, kind in kinds.items():
        uppers = [link for link in drawn.links if link.lower == key]
        assert bool(uppers) == (kind != drawn.nodes[-1].kind), key
    per_domain = [sum(each.kind == "gpu" and each.of == domain for each in drawn.nodes) for domain in (0, 1, 3)]
    assert per_domain == [min(MAX_DRAWN_GPUS, catalog.load_node(node).scale_up_domain_gpus)] * 3


def test_a_picture_of_a_large_job_is_as_small() -> None:
    sizes = [len(picture(network(gpus, fabric="roce-400g-rail-3layer")).nodes) for gpus in (1024, 16_384)]
    assert max(sizes) < 80
