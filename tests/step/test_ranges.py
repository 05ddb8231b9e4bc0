"""Ranges by category: what is wrong together adds up, what is independent in quadrature, and gaps have their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import hypot
from typing import get_args

import numpy as np
import pytest

from hwprofiles.calibration.class_ranges import errors, ranges
from hwprofiles.kernels.anchoring import KernelCost
from hwprofiles.kernels.class_ranges import class_range, kernel_class, load_class_ranges
from hwprofiles.kernels.parameters import Range
from hwprofiles.kernels.shape import KernelShape
from hwprofiles.provenance import Basis
from simulator import load_scenario
from simulator.assembly.chunks import Message, Piece, Segment
from simulator.assembly.step_graph import StepGraph
from simulator.costs.cost import CollectiveCost
from simulator.scenario.assumptions import read_assumptions
from simulator.schedule import build_schedule
from simulator.step.graph import build_graph, order_of_actions
from simulator.step.joint import step_joint
from simulator.step.lanes import lanes_of
from simulator.step.power import StepPower, power_of, seconds_if_longer
from simulator.step.prepared import prepare
from simulator.step.ranges import Ends, measured_ends, relative_ends
from simulator.step.step import simulate_seconds
from simulator.workload.op import Op
from tests.assembly.test_step_graph import graph_of
from tests.laws.runs import changed
from tests.laws.test_assumptions import SMALL
from tests.laws.test_power import BUSY

LEARNED = changed(SMALL, moe={"balance": "learned"}, mechanisms={"host_stream": False}, draws=2)
GAP = Range(2e-6, 1e-6, 4e-6)


def kernel(shape: KernelShape, seconds: float, low: float, high: float, basis: Basis) -> Piece:
    return Piece(Op("kernel", "F", shape, 0, 0), KernelCost(seconds, low, high, basis, "a test"))


def gemm(n: int, dtype: str = "bf16") -> KernelShape:
    return KernelShape("gemm", "fprop", dtype, 64, n, 64)


def segment(by_category: Mapping[str, float], *pieces: Piece) -> Segment:
    return Segment(sum(by_category.values()), 0.0, 0.0, by_category, pieces=pieces)


def graph(*segments: Segment) -> StepGraph:
    """Each segment runs once."""
    whole = graph_of(build_schedule("1f1b", 1, 1))
    dag = replace(whole.dag, op_class=np.arange(len(segments), dtype=np.int32), num_classes=len(segments))
    return replace(whole, dag=dag, classes=segments)


def test_a_class_is_wrong_together_and_calls_are_so_by_themselves() -> None:
    """Two shapes of one class: its range of both together, the calls' own in quadrature. A gap has no share of either."""
    found = class_range("gemm.bf16", "own")
    assert found is not None
    pieces = [kernel(gemm(n), 1.0, 0.9, 1.2, "interpolated") for n in (128, 256)]
    ends = relative_ends(graph(segment({"gemm": 2.0, "kernel_gaps": 1.0}, *pieces)), GAP)
    assert ends["gemm"] == pytest.approx((hypot(1 - found.low, 0.05, 0.05), hypot(found.high - 1, 0.1, 0.1)))
    assert ends["kernel_gaps"] == Ends(0.5, 1.0)
    assert "kernel_gaps" not in relative_ends(graph(segment({"gemm": 2.0}, *pieces)), GAP)


def test_formats_are_independent_of_one_another() -> None:
    known = [class_range(name, "own") for name in ("gemm.bf16", "gemm.fp8")]
    pieces = [kernel(gemm(128, dtype), 1.0, 1.0, 1.0, "interpolated") for dtype in ("bf16", "fp8-tensor")]
    found = relative_ends(graph(*(segment({"gemm": 1.0}, each) for each in pieces)), None)["gemm"]
    assert found.up == pytest.approx(hypot(*((each.high - 1) / 2 for each in known if each)))


def test_pieces_count_by_what_their_segment_takes_of_the_step() -> None:
    """A kernel that others slow down to three times its time has three quarters of both."""
    known = [class_range(name, "own") for name in ("gemm.bf16", "gemm.fp8")]
    slowed = segment({"gemm": 3.0}, kernel(gemm(128), 1.0, 1.0, 1.0, "interpolated"))
    alone = segment({"gemm": 1.0}, kernel(gemm(128, "fp8"), 1.0, 1.0, 1.0, "interpolated"))
    ends = relative_ends(graph(slowed, alone), GAP)["gemm"]
    reach = [each.high - 1 for each in known if each is not None]
    assert ends.up == pytest.approx(hypot(0.75 * reach[0], 0.25 * reach[1]))


def test_a_format_of_which_nothing_was_left_out_has_the_widest_range_of_its_kind() -> None:
    entries = [
        each for each in load_class_ranges().ranges if each.name.startswith("gemm.") and each.evidence == "transferred"
    ]
    found = class_range("gemm.tf32", "transferred")
    assert found is not None
    assert found.high == max(each.range[1] for each in entries) > min(each.range[1] for each in entries)


def test_rows_of_this_very_software_and_messages_keep_their_own_range() -> None:
    """They are wrong together: no average makes them smaller."""
    pieces = [kernel(gemm(n), 1.0, 0.9, 1.2, "measured") for n in (128, 256)]
    message = Piece(
        Message("dispatch", cost := CollectiveCost(2.0, 1.0, 5.0, "measured", "a test"), "all_to_all"), cost
    )
    ends = relative_ends(graph(segment({"gemm": 2.0}, *pieces), segment({"all_to_all": 6.0}, message)), None)
    assert ends == {"all_to_all": pytest.approx((0.5, 1.5)), "gemm": pytest.approx((0.1, 0.2))}


def test_memory_bound_kernels_of_two_names_are_independent() -> None:
    pieces = [kernel(KernelShape(op, bytes=8), 1.0, 0.8, 1.4, "transferred") for op in ("rmsnorm", "rmsnorm", "swiglu")]
    ends = relative_ends(graph(segment({"memory_bound": 3.0}, *pieces)), None)["memory_bound"]
    assert ends == pytest.approx((hypot(0.4, 0.2) / 3, hypot(0.8, 0.4) / 3))


def test_another_gpu_s_rates_are_known_less_well_than_the_own() -> None:
    for entry in load_class_ranges().ranges:
        own, transferred = class_range(entry.name, "own"), class_range(entry.name, "transferred")
        assert own is not None and transferred is not None
        assert transferred.low < own.low < 1.0 < own.high < transferred.high
    assert kernel_class(KernelShape("grouped_gemm", "fprop", "mxfp8", 8, 8, 8)) == "grouped_gemm.fp8"
    assert class_range("memory.rmsnorm", "own") is None
    assert class_range("gemm.tf32", "transferred") is not None


def gain(power: StepPower, longer: float) -> float:
    """Share of the step that goes where GEMMs take so much longer, relative."""
    lanes, own = lanes_of(power), power.apart.graph.seconds_by_category["gemm"]
    table = seconds_if_longer(power, longer * own, is_arithmetic=True)
    return 1.0 - float(lanes.makespans(table[:, None])[0]) / power.step_s


def test_a_limited_step_gains_less_by_faster_arithmetic() -> None:
    """Under the limit faster kernels draw more and are slowed down; at speed 1 the step has all of the gain."""
    free, bound = (
        load_scenario(changed(BUSY, parallel={"pp": 1}, mechanisms={"link_sharing": False}, device=device))
        for device in ({"clock": "burst"}, {"power_cap_w": 350.0})
    )
    gains = []
    for scenario in (free, bound):
        step = prepare(scenario)
        power = power_of(step, build_graph(step))
        assert gain(power, 0.0) == pytest.approx(0.0, abs=1e-4)
        gains.append(gain(power, -0.1))
    assert power.is_limited
    assert gains[0] > 0.02
    assert 0.0 <= gains[1] < 0.7 * gains[0]


def test_all_categories_of_a_step_have_both_ends() -> None:
    step = prepare(load_scenario(changed(BUSY, parallel={"pp": 2}, stack="h100-public")))
    sources, ends = measured_ends(step, power_of(step, build_graph(step)))
    found = {each.key: each for each in sources}
    assert {"gemm", "attention", "memory_bound", "kernel_gaps"} <= found.keys()
    assert all(each.at_low < 0.0 < each.at_high and each.low < each.value < each.high for each in sources)
    assert ends.low < 1.0 < ends.high
    assert ends.width > max(each.effect.width for each in sources)


def test_every_basis_is_some_evidence() -> None:
    kinds = {basis: kernel(gemm(128), 1.0, 1.0, 1.0, basis) for basis in get_args(Basis)}
    width = {
        basis: relative_ends(graph(segment({"gemm": 1.0}, each)), None)["gemm"].up for basis, each in kinds.items()
    }
    assert width["measured"] == 0.0 < width["interpolated"] < width["extrapolated"] == width["assumed"]


@pytest.mark.slow
def test_the_committed_ranges_are_those_of_the_left_out_groups() -> None:
    told = {(each.name, each.evidence): (*each.range, each.groups) for each in load_class_ranges().ranges}
    assert {(name, of): (each.low, each.high, each.groups) for name, of, each in ranges(errors())} == told


@pytest.mark.parametrize(
    ("moe", "key", "is_far"),
    [
        ({}, "expert_popularity_drift_cv", False),
        ({}, "bias_update_rate", False),
        ({"balance": "natural"}, "expert_popularity_cv", True),
    ],
)
def test_assumptions_of_the_router_move_what_persists_between_experts(
    moe: dict[str, str], key: str, is_far: bool
) -> None:
    """As the step with the router simulated at that end has it: the tremor of a bias follows the same law, and a router without
    a bias is simulated.
    """
    document = changed(LEARNED, moe=moe)
    scenario = load_scenario(document)
    entry = read_assumptions()[key]
    told = step_joint(prepare(scenario), order_of_actions(scenario))[key]
    step_s = simulate_seconds(scenario)
    ends = [
        simulate_seconds(load_scenario(changed(document, assumptions={key: end}))) / step_s - 1.0
        for end in (entry.low, entry.high)
    ]
    assert (told.low, told.high) == pytest.approx((min(0.0, *ends), max(0.0, *ends)), rel=0.3, abs=2e-3)
    assert not is_far or (told.low < -0.01 and told.high > 0.01)
