"""Collectives inside a node on public stacks: what NCCL measures, who may use the switch, what a ring's own step costs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hwprofiles.calibration.reference_points import own_rings
from hwprofiles.calibration.ring_fit import RingFit as Fit
from hwprofiles.calibration.ring_fit import RingPoint, predict
from hwprofiles.catalog import load_fabric, load_node
from hwprofiles.leave_out import LeftOut
from hwprofiles.stack_choice import load_stack
from hwprofiles.stack_records import Stack
from hwprofiles.units import GIGA, MEBI
from simulator.costs.collectives.ring import RingOp, ring_cost
from simulator.network.placement import GroupShape
from simulator.network.topology import Network, build_network

LARGE = 4 * 2**30
"""Bytes of the published sweeps' plateau."""


def network(node: str) -> Network:
    domain = load_node(node).scale_up_domain_gpus
    return build_network(load_node(node), load_fabric("ib-400g-rail"), 2 * domain, domain)


def bus(op: RingOp, num_bytes: float, ranks: int, node: str, stack: Stack) -> float:
    """Bus bandwidth of nccl-tests in GB/s."""
    rounds = 2 if op == "all_reduce" else 1
    seconds = ring_cost(op, num_bytes, GroupShape(ranks, 1, ranks), network(node), stack).seconds
    return rounds * (ranks - 1) / ranks * num_bytes / seconds / GIGA


@pytest.mark.parametrize(
    ("node", "stack", "ranks", "published", "within"),
    [
        *(("h100-x8", "h100-public", ranks, gb, 0.04) for ranks, gb in ((5, 420), (6, 440), (7, 460), (8, 480))),
        *(("h100-x8", "h100-public", ranks, 370, 0.17) for ranks in (2, 3, 4)),
        ("h800-x8", "h800-public", 8, 215, 0.05),
        ("b300-x8", "b300-transfer", 8, 845, 0.13),
        ("gb200-nvl72", "gb200-public", 72, 839, 0.2),
    ],
)
def test_published_all_reduces(node: str, stack: str, ranks: int, published: float, within: float) -> None:
    """NVIDIA/nccl#1455, 1374, 2140; coreweave/nccl-tests. Only those of 8 H100 were fitted; two GPUs reach more than we say."""
    assert bus("all_reduce", LARGE, ranks, node, load_stack(stack)) == pytest.approx(published, rel=within)


def test_the_switch_pays_from_five_gpus_on() -> None:
    with_switch, net = load_stack("h100-public"), network("h100-x8")
    ring = replace(
        with_switch, parameters={k: p for k, p in with_switch.parameters.items() if not k.startswith("nvls.")}
    )
    for ranks in range(2, 9):
        group = GroupShape(ranks, 1, ranks)
        both, alone = (ring_cost("all_reduce", LARGE, group, net, stack) for stack in (with_switch, ring))
        if ranks != 4:  # a tie: 370 GB/s either way
            assert (both.seconds < 0.97 * alone.seconds) == (ranks >= 5)
        assert both.low <= both.seconds <= both.high and both.high == alone.high, "software may keep the switch out"
        for op in ("all_gather", "reduce_scatter"):
            assert ring_cost(op, LARGE, group, net, with_switch) == ring_cost(op, LARGE, group, net, ring)
    beyond = GroupShape(16, 2, 8)
    assert ring_cost("all_reduce", LARGE, beyond, net, with_switch) == ring_cost("all_reduce", LARGE, beyond, net, ring)


def test_a_mesh_has_no_switch_and_older_chips_have_none_that_adds() -> None:
    net, stack = network("h100-x8"), load_stack("h100-public")
    mesh = replace(net, scale_up_peer_bytes_per_s=net.scale_up_bytes_per_s / 7)
    group = GroupShape(8, 1, 8)
    assert (
        ring_cost("all_reduce", LARGE, group, mesh, stack).seconds
        > ring_cost("all_reduce", LARGE, group, net, stack).seconds
    )
    for name in ("a100-public", "a100-40gb-transfer", "mi300x-public", "mi355x-public"):
        assert not [key for key in load_stack(name).parameters if key.startswith("nvls.")]


@pytest.mark.parametrize("op", ["all_gather", "reduce_scatter", "all_reduce"])
def test_a_step_that_stays_on_the_gpu_is_felt_most_by_two(op: RingOp) -> None:
    """wire · (steps + 1/2) / steps: 3/2 of it for an all-gather of two, 15/14 for one of eight."""
    stack, rounds = load_stack("a100-public"), 2 if op == "all_reduce" else 1
    huge = 1e15
    for ranks in (2, 4, 8):
        steps = rounds * (ranks - 1)
        expected = 0.85 * 300 * steps / (steps + 0.5)
        assert bus(op, huge, ranks, "a100-x8", stack) == pytest.approx(expected, rel=2e-3)


def test_the_formula_of_the_fit_is_the_simulator_s() -> None:
    stack = load_stack("h200-public")
    fit = Fit(*(stack.parameters[key].value for key in ("link.nvlink.ring", "ring.fill_s", "ring.own_step")))
    for op in ("all_gather", "reduce_scatter"):
        for ranks in (2, 4, 8):
            for size in (MEBI, 16 * MEBI, 1024 * MEBI):
                seconds = predict(RingPoint("h200", op, ranks, int(size), 1.0), fit)
                found = ring_cost(op, size, GroupShape(ranks, 1, ranks), network("h200-x8"), stack).seconds
                assert found == pytest.approx(seconds, rel=1e-9)


def test_own_rings_are_met_with_and_without_their_chip() -> None:
    """Eight H200 whose switch was kept out: their own fit, and the shares of H100 (left out: H200)."""
    net = network("h200-x8")
    for without, limit in ((LeftOut(), 0.06), (LeftOut(gpus=frozenset({"h200"})), 0.07)):
        stack = load_stack("h200-transfer" if without else "h200-public", without)
        ring = replace(stack, parameters={k: p for k, p in stack.parameters.items() if not k.startswith("nvls.")})
        errors = []
        for point in own_rings():
            group = GroupShape(point.ranks, 1, point.ranks)
            cost = ring_cost(point.op, point.num_bytes, group, net, ring)  # type: ignore[arg-type]
            errors.append(abs(cost.seconds / point.seconds - 1.0))
        assert sum(errors) / len(errors) < limit
