"""Copies of sharded parameters, counted by hand for a model of one layer, and by laws on a whole scenario."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from simulator import load_scenario, simulate_run
from simulator.workload.counted import count_workload
from simulator.workload.op import StageWorkload

SMALL = (
    "llama-3.1-70b", "cluster.num_gpus=16", "parallel={tp: 1, pp: 1, zero_stage: 3}", "model.num_layers=2",
    "model.num_dense_layers=2", "training.global_batch_size=32", "training.seq_len=1024",
)  # fmt: skip
COPIES = ("gathered_copy", "gradients_joined", "gradients_cast", "gradients_divided")


def stage(**plan: Any) -> StageWorkload:
    given = [f"data_parallel.{key.replace('__', '.')}={value}" for key, value in plan.items()]
    return count_workload(load_scenario(SMALL[0], [*SMALL[1:], *given]), 1, None).stages[0]


def bytes_of(found: StageWorkload) -> dict[tuple[str, str], float]:
    """(copy, pass) → bytes a parameter of the stage."""
    moved: Counter[tuple[str, str]] = Counter()
    for unit in found.units:
        for op in unit.ops():
            if op.name in COPIES:
                moved[op.name, op.phase] += op.bytes_read + op.bytes_written
    return {key: value / found.dense_params for key, value in moved.items()}


@pytest.mark.parametrize(
    ("plan", "expected"),
    [
        ({}, {}),
        (
            {"sharded_copies": "flat"},
            {("gradients_joined", "W"): 4, ("gradients_cast", "W"): 6, ("gradients_divided", "W"): 8},
        ),
        (
            {"sharded_copies": "flat", "grad_reduce__dtype": "bf16"},
            {("gradients_joined", "W"): 4, ("gradients_divided", "W"): 4},
        ),
        ({"sharded_copies": "flat", "grad_reduce__every": "step"}, {("gradients_joined", "W"): 4}),
        (
            {"sharded_copies": "by_parameter"},
            {("gathered_copy", "F"): 4, ("gathered_copy", "I"): 4, ("gradients_cast", "W"): 6},
        ),
        (
            {"sharded_copies": "by_parameter", "reshard_after_forward": "false", "param_gather__dtype": "fp32"},
            {("gathered_copy", "F"): 8, ("gradients_cast", "W"): 6},
        ),
    ],
)
def test_bytes_a_parameter(plan: dict[str, Any], expected: dict[tuple[str, str], float]) -> None:
    assert bytes_of(stage(**plan)) == pytest.approx(expected)


def test_copies_stand_where_their_tensors_are_needed_and_made() -> None:
    """In front of the first kernel that reads the parameters, behind the last weight gradient."""
    for unit in stage(sharded_copies="by_parameter").units:
        ops = [op.name for op in unit.ops()]
        assert ops[0] == "gathered_copy"
        assert ops[-1] == "gradients_cast" or unit.kind == "head"


def test_more_copies_are_never_faster_and_one_holder_makes_none() -> None:
    steps = [
        simulate_run(load_scenario(SMALL[0], [*SMALL[1:], f"data_parallel.sharded_copies={layout}"])).step.step_s
        for layout in ("none", "by_parameter", "flat")
    ]
    assert steps[0] < steps[1] < steps[2], "14 and 18 bytes a parameter"
    alone = load_scenario(SMALL[0], [*SMALL[1:], "parallel.tp=16", "data_parallel.sharded_copies=flat"])
    assert bytes_of(count_workload(alone, 1, None).stages[0]) == {}
