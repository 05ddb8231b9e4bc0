"""All-to-alls against published runs of NCCL, and what their formula, and a hop's, must keep."""

from __future__ import annotations

from dataclasses import replace

import pytest

from simulator import load_scenario
from simulator.costs.collectives.exchange import exchange_cost, neighbour_cost
from simulator.network.placement import GroupShape
from simulator.step.hardware import Hardware, look_up

MEASURED = (
    ("h100-x8", 2, 1 << 20, 14.85), ("h100-x8", 2, 1 << 26, 139.8), ("h100-x8", 8, 1 << 20, 15.61),
    ("h100-x8", 8, 1 << 24, 75.66), ("h100-x8", 8, 1 << 28, 763.91), ("b200-x8", 8, 1 << 24, 50.09),
    ("b200-x8", 8, 1 << 28, 437.69), ("b200-x8", 2, 1 << 26, 126.89), ("a100-x8", 2, 1 << 26, 243.0),
    ("a100-x8", 8, 1 << 24, 114.3), ("a100-x8", 8, 1 << 28, 1197.9),
)  # fmt: skip
"""(node, GPUs, bytes, microseconds) of alltoall, NCCL 2.27 and 2.29: ai-dynamo/aiconfigurator (095f58a)
systems/data/*/comm/nccl/*/nccl_perf.parquet. Of 8 GPUs `ring.exchange_share` alone is fitted on
such runs (hwprofiles/calibration/ring_fit.py).
"""


def hardware(node: str = "h100-x8") -> Hardware:
    return look_up(load_scenario("llama-3.1-70b", [f"cluster.node={node}"]))


@pytest.mark.parametrize(("node", "ranks", "num_bytes", "us"), MEASURED)
def test_an_all_to_all_inside_a_node_takes_what_was_measured(node: str, ranks: int, num_bytes: int, us: float) -> None:
    of = hardware(node)
    cost = exchange_cost(num_bytes, GroupShape(ranks, 1, ranks), of.network, of.stack)
    assert cost.seconds * 1e6 == pytest.approx(us, rel=0.26)


def test_bytes_go_where_the_ranks_are() -> None:
    """16 ranks on two nodes: 7/16 of a rank's bytes stay inside, 8/16 leave by its NIC, which holds the rest."""
    of = hardware()
    cost = exchange_cost(1 << 28, GroupShape(16, 2, 8), of.network, of.stack)
    assert (cost.bytes_scale_up, cost.bytes_nic) == ((1 << 28) * 7 / 16, (1 << 28) * 8 / 16)
    assert cost.bound_by == "nic"
    assert cost.seconds > exchange_cost(1 << 28, GroupShape(16, 1, 16), of.network, of.stack).seconds
    assert exchange_cost(1 << 28, GroupShape(1, 1, 1), of.network, of.stack).seconds == 0.0


def test_a_hop_between_nodes_holds_the_others_and_few_of_them_use_a_nic() -> None:
    of = hardware()
    inside, across = (
        neighbour_cost(1 << 26, shape, of.network, of.stack) for shape in (GroupShape(8, 1, 8), GroupShape(8, 4, 2))
    )
    assert across.seconds > 3 * inside.seconds
    assert (across.bytes_nic, across.bytes_scale_up) == ((1 << 26) / 2, (1 << 26) / 2)
    assert inside.bytes_nic == 0.0


def test_hops_of_a_node_s_groups_share_its_nics() -> None:
    """Of 8 GPUs with 4 NICs all send at once where each group has one rank a node, one where a group has all eight."""
    of = hardware()
    few = replace(of.network, wiring=replace(of.network.wiring, rails=4))
    for network, ratio in ((of.network, 1.0), (few, 2.0)):
        all_send, one_sends = (
            neighbour_cost(1 << 28, shape, network, of.stack).seconds
            for shape in (GroupShape(8, 8, 1), GroupShape(64, 8, 8))
        )
        assert all_send / one_sends == pytest.approx(ratio, rel=0.05)
