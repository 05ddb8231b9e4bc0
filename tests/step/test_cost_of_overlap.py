"""What a collective beside kernels costs them: as measured on 4 and on 8 H200, whatever the product makes of its parts."""

from __future__ import annotations

import csv
from pathlib import Path
from statistics import mean

import pytest

import hwprofiles
from simulator import load_scenario
from simulator.step.prepared import PreparedStep, prepare
from tests.laws.runs import changed
from tests.laws.test_power import BUSY

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
