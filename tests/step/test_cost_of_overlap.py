"""What a message beside kernels costs them: as measured on 4 and on 8 H200, whatever the product makes of its parts.

A collective of data parallelism, and dispatch and combine in pairs whose kernels are launched on the whole GPU.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from math import fsum
from pathlib import Path
from statistics import mean

import pytest

import hwprofiles
from hwprofiles.kernels.parameters import need
from hwprofiles.kernels.shape import Regime
from simulator import load_scenario
from simulator.assembly.chunks import StageCost, UnitCost
from simulator.assembly.collectives import ActionCollectives
from simulator.assembly.pairing import Pairing
from simulator.assembly.sides import sides_of
from simulator.costs.collectives.all_to_all import all_to_all_cost
from simulator.step.graph import order_of_actions
from simulator.step.joint import step_joint
from simulator.step.prepared import PreparedStep, prepare
from simulator.workload.op import AllToAll, Op
from tests.laws.runs import changed
from tests.laws.test_power import BUSY
from tests.step.test_ep_overlap import ACCUMULATION

FOLDER = Path(hwprofiles.__file__).parent / "measurements"
GEMMS = ("gemm_qkv", "gemm_o", "gemm_wgrad")
"""Of the layer measured on 8 GPUs, those shorter than twice an all-gather."""


def rows_of(name: str) -> list[dict[str, str]]:
    with (FOLDER / name).open(encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def lost_of_four(kernels: str) -> list[float]:
    """Seconds of kernels that a second's worth of messages costs, kernels and messages without a pause."""
    rows = rows_of("h200x4-beside-power-2026-11-27.csv")
    alone = next(row for row in rows if row["kernels"] == kernels and row["messages"] == "none")
    sent = {row["messages"]: float(row["sent_bytes_per_s"]) for row in rows if row["kernels"] == "none"}
    return [
        (1.0 - float(row["bytes_per_s"]) / float(alone["bytes_per_s"]))
        / (float(row["sent_bytes_per_s"]) / sent[row["messages"]])
        for row in rows
        if row["kernels"] == kernels and row["messages"] in sent
    ]


def lost_of_eight(message: str, *kernels: str) -> float:
    """The mean of the same on 8 GPUs, kernel by kernel."""
    rows = rows_of("h200x8-beside-2026-11-27.csv")
    whole = mean(float(row[f"{message}_beside_s"]) for row in rows if row["name"] == "collective_alone")
    found = []
    for row in rows:
        if row["name"].startswith(kernels):
            beside, alone = float(row[f"beside_{message}_s"]), min(float(row["alone_s"]), float(row["alone_again_s"]))
            found.append((1.0 - alone / beside) / (whole / float(row[f"{message}_beside_s"])))
    return mean(found)


@pytest.fixture(scope="module")
def step() -> PreparedStep:
    scenario = changed(
        BUSY, cluster={"node": "h200-x8", "num_gpus": 8, "fabric": "ib-400g-rail"}, stack=None,
        parallel={"pp": 1, "zero_stage": 3},
    )  # fmt: skip
    return prepare(load_scenario(scenario))


def predicted(step: PreparedStep, bound: str) -> float:
    ops = [op for stage in step.workload.stages for unit in stage.units for op in unit.ops() if op.shape.bound == bound]
    lost = {1.0 - step.kernels.seconds(op, "alone").seconds / step.kernels.beside_collective(op).seconds for op in ops}
    assert max(lost) - min(lost) < 1e-9
    return step.messages.collective_stretch * max(lost)


def test_a_second_of_collective_costs_what_was_measured(step: PreparedStep) -> None:
    """GEMMs: the middle of 4 GPUs, where nothing pauses, and of short GEMMs on 8, where a collective waits for their end."""
    four = mean(lost_of_four("gemm"))
    gathers, reductions = (lost_of_eight(each, *GEMMS) for each in ("all_gather", "reduce_scatter"))
    assert reductions < predicted(step, "gemm") < four
    assert predicted(step, "gemm") == pytest.approx((four + (gathers + reductions) / 2) / 2, rel=0.05)
    copies = mean((mean(lost_of_four("copy")), lost_of_eight("all_gather", "copy")))
    assert predicted(step, "memory") == pytest.approx(copies, rel=0.15)
    assert predicted(step, "attention") == pytest.approx(lost_of_eight("all_gather", "attention"), rel=0.3)


PAIRS = changed(
    ACCUMULATION, cluster={"node": "h200-x8"}, parallel={"comm_sms": 24, "overlap": {"delay_wgrad": True}}, stack=None,
    mechanisms={"notify_floor": False},
)  # fmt: skip
"""Experts inside a node; dispatch and combine hold as many SMs as the measured collectives."""


def kernels_of(units: Sequence[UnitCost], regime: Regime) -> dict[str, float]:
    """Seconds by what bounds them, forward and backward."""
    found: dict[str, float] = {}
    for unit in units:
        for (_, of), block in unit.blocks.items():
            for piece in (piece for _, _, segment in block.segments for piece in segment.pieces if of == regime):
                assert isinstance(piece.what, Op)
                found[piece.what.shape.bound] = found.get(piece.what.shape.bound, 0.0) + piece.cost.seconds
    return found


def lost_in_pair(step: PreparedStep) -> dict[str, float]:
    """Seconds of kernels that a second (alone) of messages costs in a pair, beside kernels of a bound; "all": of any."""
    layers = StageCost(0, tuple(unit for unit in step.stages[0].units if unit.all_to_all))
    units = sides_of("FB", layers, layers, ActionCollectives(), Pairing(by_layer=True))["F"].units
    sent = fsum(each.seconds for unit in layers.units for (_, of), each in unit.all_to_all.items() if of == "alone")
    alone, held, paired = (
        kernels_of(layers.units, "alone"),
        kernels_of(layers.units, "overlapped"),
        kernels_of(units, "overlapped"),
    )
    whole = fsum(
        segment.seconds for unit in layers.units for (_, of), block in unit.blocks.items() for _, _, segment in block.segments
        if of == "overlapped"
    )  # fmt: skip
    found = {bound: (paired[bound] - alone[bound]) / (sent * held[bound] / whole) for bound in alone}
    return {**found, "all": (fsum(paired.values()) - fsum(alone.values())) / sent}


def test_a_second_of_dispatch_costs_what_a_second_of_a_collective_does() -> None:
    """Pairs whose kernels are launched on the whole GPU: between the short GEMMs of 8 GPUs and the busy ones of 4, by class."""
    found = lost_in_pair(prepare(load_scenario(PAIRS)))
    busy, gathers, reductions = mean(lost_of_four("gemm")), *(
        lost_of_eight(each, *GEMMS) for each in ("all_gather", "reduce_scatter")
    )  # fmt: skip
    assert reductions < found["gemm"] < busy
    assert found["gemm"] == pytest.approx((busy + (gathers + reductions) / 2) / 2, rel=0.06)
    copies = mean((mean(lost_of_four("copy")), lost_of_eight("all_gather", "copy")))
    assert found["memory"] == pytest.approx(copies, rel=0.15)
    assert found["attention"] == pytest.approx(lost_of_eight("all_gather", "attention"), rel=0.3)
    assert lost_of_eight("reduce_scatter", "gemm", "attention", "copy") < found["all"] < mean(lost_of_four("layer"))


def test_fewer_sms_cost_kernels_less() -> None:
    few, many = (lost_in_pair(prepare(load_scenario(changed(PAIRS, parallel={"comm_sms": sms})))) for sms in (8, 24))
    assert all(0.0 < few[bound] < many[bound] for bound in many)


def test_messages_over_nics_keep_their_pace_and_hold_their_sms_all_the_time() -> None:
    """Between nodes a message takes what it takes beside kernels that leave its SMs alone; inside one it waits for them."""
    far = prepare(
        load_scenario(changed(PAIRS, cluster={"num_gpus": 16}, parallel={"ep": 16}, training={"global_batch_size": 80}))
    )
    near = prepare(load_scenario(PAIRS))
    for step, stretch in ((far, 1.0), (near, step_stretch(near))):
        for message in messages_of(step):
            asked = message, step.hardware.network, step.hardware.stack
            alone, beside = (all_to_all_cost(*asked, regime, 24) for regime in ("alone", "overlapped"))  # type: ignore[arg-type]
            assert (alone.bound_by == "scale_up") == (step is near)
            expected = max(beside.seconds, stretch * alone.seconds)
            assert step.messages.all_to_all(message, "overlapped").seconds == pytest.approx(expected)


def step_stretch(step: PreparedStep) -> float:
    return step.assumptions["collective_stretch"].value


def messages_of(step: PreparedStep) -> set[AllToAll]:
    return {each for unit in step.workload.stages[0].units for each in unit.all_to_all.values()}


def test_kernels_of_a_fixed_grid_are_priced_as_its_trace_has_them() -> None:
    """DualPipe's leave 20 SMs to messages all the time: neither what a collective takes nor its stretch is theirs."""
    step = prepare(load_scenario(changed(PAIRS, parallel={"schedule": "dualpipe_v", "comm_sms": 20})))
    op = next(op for unit in step.workload.stages[0].units for op in unit.ops() if op.shape.bound == "gemm")
    ratio = need(step.hardware.stack, "overlap.gemm.ratio").value
    assert step.kernels.seconds(op, "overlapped").seconds == pytest.approx(
        step.kernels.seconds(op, "alone").seconds / ratio, rel=0.02
    )
    for message in messages_of(step):
        cost = step.messages.all_to_all(message, "overlapped")
        assert cost == replace(step.messages, collective_stretch=9.0).all_to_all(message, "overlapped")


def test_the_stretch_of_messages_is_an_assumption_of_pairs_alone() -> None:
    """It moves a step that has no collective beside kernels but dispatch and combine."""
    step = prepare(load_scenario(changed(PAIRS, phases=[{"name": "short", "steps": 2}])))
    effects = step_joint(step, order_of_actions(step.scenario))
    assert effects["collective_stretch"].low < 0.0 < effects["collective_stretch"].high
    assert effects["lone_chunk_full_sms"].width == 0.0
    assert effects["collective_sms"].width == 0.0
