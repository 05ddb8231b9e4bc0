"""A step's watts by hand: energy of its kernels, speeds of its ranks, seconds of what was measured inside a step."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from hwprofiles.catalog import load_gpu
from hwprofiles.kernels.anchoring import KernelCost
from hwprofiles.kernels.shape import KernelShape
from hwprofiles.power.constants import PowerConstants, power_constants
from hwprofiles.stack_choice import load_stack
from simulator import load_scenario, simulate_step
from simulator.assembly.chunks import NUM_STREAMS, Piece
from simulator.assembly.power import beyond, is_arithmetic
from simulator.costs.cost import CollectiveCost
from simulator.engine import sweep
from simulator.engine.dag import Timeline
from simulator.step.graph import build_graph
from simulator.step.lanes import lanes_of, sources_of
from simulator.step.power import StepPower, energy_of, power_of, step_power
from simulator.step.prepared import prepare
from simulator.step.ranges import loop_source, power_sources
from simulator.workload.op import Op
from tests.laws.runs import changed
from tests.laws.test_power import BUSY

TRACED = changed(
    BUSY, cluster={"node": "h800-x8", "fabric": "ib-400g-rail"}, parallel={"pp": 2}, stack="h800-deepseek-2024"
)
"""Its attention was measured inside a step, its BF16 GEMMs were not."""
EXPERTS = {"num_routed_experts": 16, "num_shared_experts": 0, "top_k": 2, "expert_intermediate_size": 14336}


@cache
def power(cap_w: float | None = None) -> StepPower:
    step = prepare(load_scenario(changed(TRACED, device={"power_cap_w": cap_w}, mechanisms={"link_sharing": False})))
    return power_of(step, build_graph(step))


def h100() -> PowerConstants:
    return power_constants(load_stack("h100-public"), load_gpu("h100"))


@pytest.mark.parametrize("cap_w", [None, 350.0])
def test_mean_watts_are_the_energies_of_what_a_rank_runs(cap_w: float | None) -> None:
    """Piece by piece: FLOP at the rank's speed, bytes moved and sent at any, and the waiting chip's power all the time. Without
    what of its waits is beyond the window they meet the limit.
    """
    found = power(cap_w)
    chip, dag = found.constants.chip(found.limit_w), found.plain.dag
    joules = np.full(found.plain.num_ranks, chip.p0_w * found.step_s)
    for op_class, resource in zip(dag.op_class, dag.resource, strict=True):
        rank = int(resource) // NUM_STREAMS
        for piece in found.plain.classes[op_class].pieces:
            if isinstance(piece.what, Op):
                op, scale = piece.what, chip.scale(float(found.speeds[rank]))
                joules[rank] += found.constants.flop_j(op.shape, op.flop) * scale
                joules[rank] += found.constants.byte_j(op.bytes_read + op.bytes_written)
            elif isinstance(piece.cost, CollectiveCost):
                joules[rank] += found.constants.sent_j(piece.cost.bytes_nic + piece.cost.bytes_scale_up)
    assert found.watts(found.step_s) == pytest.approx(joules / found.step_s)
    busy_s = found.step_s - found.long_s
    assert (joules - chip.p0_w * found.long_s) / busy_s == pytest.approx(found.limit_w, rel=1e-4)


def test_waits_beyond_the_window_are_left_out_of_the_mean() -> None:
    """Rank 0 computes from 1 to 2 s and from 5 to 6 s of 9 s, of which 0.5 s of each wait count: 4 s between, 3 + 1 s round the
    step's end. A message on another stream is no work, and rank 1, which never waits, has nothing to leave out.
    """
    streams = np.array([0, 0, 1, NUM_STREAMS])
    start = np.array([[1.0], [5.0], [2.0], [0.0]])
    finish = np.array([[2.0], [6.0], [4.0], [9.0]])
    found = beyond(streams, 2, Timeline(start, finish), 0.5)
    assert found == pytest.approx([(3.0 - 0.5) + (4.0 - 0.5), 0.0])
    assert beyond(streams, 2, Timeline(start, finish), 4.0) == pytest.approx([0.0, 0.0])


def test_a_longer_window_is_never_slower() -> None:
    """No wait gives clock back at a window of nothing, every wait all of its own at one of any length."""
    step = prepare(load_scenario(changed(TRACED, mechanisms={"link_sharing": False})))
    graph, energy = build_graph(step), step.kernels.power
    steps = [step_power(graph, energy.at("window_s", window), 350.0) for window in (0.0, 0.01, 1e6)]
    times = [each.step_s for each in steps]
    assert times == sorted(times, reverse=True) and times[0] > 1.0001 * times[-1]
    assert not steps[-1].long_s.any() and steps[0].long_s.all()


def test_a_message_costs_what_it_sends_over_either_kind_of_link() -> None:
    known = h100()
    cost = CollectiveCost(1.0, 1.0, 1.0, "measured", "made up", bytes_nic=1e9, bytes_scale_up=3e9)
    assert energy_of(known)(Piece("a message", cost)) == (0.0, pytest.approx(known.sent_j(4e9)))  # type: ignore[arg-type]
    assert known.sent_j(4e9) > 0.0


@pytest.mark.parametrize("cap_w", [None, 350.0])
def test_what_was_measured_inside_a_step_is_slowed_down_by_a_cap_alone(cap_w: float | None) -> None:
    """Such kernels ran at the speed that the board's limit left them; the others at speed 1."""
    found = power(cap_w)
    states = set()
    for rank, speed in enumerate(found.speeds):
        own, at = float(found.own[rank]), [i for i, each in enumerate(found.apart.rank) if each == rank]
        for i in at:
            for before, after in zip(found.apart.graph.classes[i].pieces, found.graph.classes[i].pieces, strict=True):
                if is_arithmetic(before):
                    state = getattr(before.cost, "state", None)
                    states.add(state)
                    factor = own / speed if state == "in_step" else 1.0 / speed
                    assert after.cost.seconds == pytest.approx(factor * before.cost.seconds, rel=1e-12)
                else:
                    assert after == before
    assert states > {"in_step"}
    if cap_w is None:
        assert found.speeds == pytest.approx(found.own)
    else:
        assert (found.speeds < 0.8 * found.own).all()


@pytest.mark.parametrize("cap_w", [None, 350.0])
def test_the_graph_takes_the_seconds_that_the_speeds_were_solved_with(cap_w: float | None) -> None:
    found = power(cap_w)
    assert found.graph.class_seconds() == pytest.approx(found.apart.seconds(found.speeds, found.own), rel=1e-9)
    assert sweep(found.graph.dag, found.graph.class_seconds()).makespan_s == pytest.approx(found.step_s, rel=1e-9)


def test_uneven_loads_have_the_watts_of_their_own_length() -> None:
    """A step that waits for its hot ranks is longer, and its chips may run faster in it: to the limit, not below."""
    document = changed(
        BUSY, model={"num_dense_layers": 0, "moe": EXPERTS}, parallel={"pp": 1, "ep": 8}, device={"power_cap_w": 450.0}
    )
    even, uneven = (
        simulate_step(load_scenario(changed(document, moe={"balance": balance}))).step
        for balance in ("forced", {"load_imbalance": 1.6})
    )
    assert even.power is not None
    assert uneven.power is not None
    assert uneven.step_s > 1.1 * even.step_s
    assert uneven.power.speed > 1.05 * even.power.speed
    for each in (even.power, uneven.power):
        assert each.limited
        assert each.mean_w == pytest.approx(450.0, rel=0.01)


def test_every_kind_of_kernel_has_its_own_energy() -> None:
    """Attention's two passes, and FP8 in blocks, as power.yaml has them for the H100; memory-bound kernels have none a FLOP."""
    known = h100()
    core: dict[str, Any] = {"batch": 1, "seq": 128, "heads": 1, "head_dim_qk": 128, "head_dim_v": 128}
    pj = {
        name: known.flop_j(KernelShape(op, dtype=dtype, **sizes), 1e12)
        for name, op, dtype, sizes in (
            ("attention_fwd", "attention_fwd", "bf16", core), ("attention_bwd", "attention_bwd", "bf16", core),
            ("gemm.bf16", "gemm", "bf16", {"m": 1, "n": 1, "k": 1}),
            ("gemm.fp8", "grouped_gemm", "fp8-tensor", {"m": 1, "n": 1, "k": 1}),
            ("gemm.fp8-block", "gemm", "fp8-block", {"m": 1, "n": 1, "k": 1}),
        )
    }  # fmt: skip
    assert pj == pytest.approx({name: known.value(f"{name}.pj_per_flop") for name in pj})
    assert len(set(pj.values())) == len(pj)
    assert known.flop_j(KernelShape("rmsnorm", bytes=8), 1e12) == 0.0


def test_the_range_of_energies_is_that_of_the_one_known_least() -> None:
    key, known = "gemm.fp8.pj_per_flop", h100()
    wide = replace(known.by_key[key], low=0.25 * known.value(key), high=3.0 * known.value(key))
    known = replace(known, by_key={**known.by_key, key: wide})
    assert known.energy_range() == pytest.approx((0.25, 3.0))


def test_more_energy_a_flop_is_slower_and_less_is_faster() -> None:
    (energy,) = (each for each in sources_of(lanes_of(power()), power_sources(power())) if each.key == "power.energy")
    assert energy.at_low < -0.01
    assert energy.at_high > 0.003


def test_what_a_loop_has_lost_is_a_range_of_its_own() -> None:
    """The least seconds are those of a loop that had lost the most, the most those of one that had lost nothing yet: as the
    step is with that constant. No kernel's own range holds them.
    """
    scenario = load_scenario(
        changed(
            BUSY, cluster={"node": "b200-x8"}, parallel={"pp": 1},
            mechanisms={"link_sharing": False, "host_stream": False, "power": False},
        )
    )  # fmt: skip
    step = prepare(scenario)
    known, share = step.kernels, step.kernels.power.by_key["loop_share"]
    assert share.low == 0.0
    found, graph = power_of(step, build_graph(step)), build_graph(step)
    for segment in graph.classes:
        for piece in segment.pieces:
            if isinstance(piece.what, Op) and is_arithmetic(piece):
                assert isinstance(piece.cost, KernelCost)
                raw, speed = known.kernel(piece.what.shape, "alone"), known.first_launch_speed(piece.what, share.value)
                assert piece.cost.low / piece.cost.seconds == pytest.approx(raw.low / raw.seconds)
                assert piece.cost.seconds == pytest.approx(speed * raw.seconds)
    (told,) = sources_of(lanes_of(found), loop_source(found, known))
    assert (told.key, told.low, told.value, told.high) == ("power.loop_share", share.low, share.value, share.high)
    for end, value in ((told.at_high, share.high), (told.at_low, share.low)):
        kernels = replace(known, power=known.power.at("loop_share", value), at_full_speed={})
        pieces = [piece for segment in graph.classes for piece in segment.pieces if isinstance(piece.what, Op)]
        for piece in pieces:
            assert isinstance(piece.what, Op)
            cost = kernels.seconds(piece.what, "alone").seconds
            ratio = kernels.first_launch_speed(piece.what, value) / kernels.first_launch_speed(piece.what, share.value)
            assert cost == pytest.approx(known.seconds(piece.what, "alone").seconds * ratio)
        assert abs(end) > 0.01
        assert (end < 0.0) == (value == share.high)
    assert loop_source(power(), prepare(load_scenario(TRACED)).kernels) == []


def test_a_group_s_state_goes_before_the_stack_s() -> None:
    """The H100's GEMMs are of first launches, in a stack whose rows are of loops: they keep their seconds."""
    step = prepare(load_scenario(changed(BUSY, parallel={"pp": 1}, stack="h100-public")))
    assert step.kernels.stack.provenance.state == "benchmark_loop"
    kept = [
        (piece.cost.seconds, step.kernels.kernel(piece.what.shape, "alone").seconds)
        for segment in build_graph(step).classes for piece in segment.pieces
        if isinstance(piece.what, Op) and piece.what.shape.op == "gemm"
    ]  # fmt: skip
    assert kept
    assert all(priced == raw for priced, raw in kept)
