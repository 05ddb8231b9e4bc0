"""What data-parallel ranks share: contradictions are refused with the way out, keys without meaning are told."""

from __future__ import annotations

from typing import Any

import pytest

from simulator import load_scenario, simulate_step
from simulator.errors import InputError
from tests.laws.runs import changed
from tests.laws.scenarios import Document

MOE: Document = {
    "model": "deepseek-v2-lite",
    "cluster": {"node": "h100-x8", "num_gpus": 16, "fabric": "ib-400g-rail"},
    "parallel": {"pp": 1, "ep": 4, "schedule": "1f1b", "zero_stage": 3},
    "training": {"seq_len": 4096, "global_batch_size": 128},
    "phases": [{"name": "p", "steps": 1}],
}


def warned(**sections: Any) -> list[str]:
    return [text for text in load_scenario(changed(MOE, **sections)).warnings if "parallel" in text]


def refused(**sections: Any) -> list[str]:
    with pytest.raises(InputError) as caught:
        load_scenario(changed(MOE, **sections))
    return [f"{problem.field}: {problem.message}" for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("sections", "expected"),
    [
        (
            {"data_parallel": {"hsdp_group": 3}},
            "data_parallel.hsdp_group: 3 does not divide dp 16; allowed 4, 8, 16, or null for one group",
        ),
        (
            {"data_parallel": {"hsdp_group": 2}},
            "data_parallel.hsdp_group: 2 does not divide dp 16 and the 4 holders of an expert into as many groups; "
            "allowed 4, 8, 16, or null for one group",
        ),
        (
            {"model": "llama-3.1-8b", "parallel": {"ep": 1}, "data_parallel": {"hsdp_group": 5}},
            "data_parallel.hsdp_group: 5 does not divide dp 16; allowed 2, 4, 8, 16, or null for one group",
        ),
        (
            {"model": "llama-3.1-8b", "parallel": {"ep": 1, "zero_stage": 1}, "data_parallel": {"hsdp_group": 5}},
            "data_parallel.hsdp_group: 5 does not divide dp 16; allowed 1, 2, 4, 8, 16, or null for one group",
        ),
        (
            {"precision": {"recipe": "fp8-blockwise"}, "kernels": {"casts": "deepseek-2024"}},
            "parallel.zero_stage: not modelled yet (3 with precision.recipe fp8-blockwise in kernels that cast weights once a "
            "step); use zero_stage: 1 or 2, recipe: bf16, or kernels.casts: transformer-engine-2025",
        ),
        (
            {"recompute": {"granularity": "full", "method": "uniform", "num_layers": 2}},
            "parallel.zero_stage: not modelled yet (3 with 2 layers that are recomputed together, each gathered once more); "
            "use recompute.num_layers: 1, or zero_stage: 1 or 2",
        ),
        (
            {"parallel": {"pp": 2, "schedule": "dualpipe", "zero_stage": 2}},
            "parallel.zero_stage: not modelled yet (2 with schedule dualpipe, whose backwards run beside forwards); "
            "use zero_stage: 1, or schedule: 1f1b",
        ),
        (
            {"parallel": {"pp": 2, "schedule": "dualpipe", "zero_stage": 1}, "data_parallel": {"hsdp_group": 4}},
            "data_parallel.hsdp_group: not modelled yet (4 with schedule dualpipe, whose backwards run beside forwards); "
            "use hsdp_group: null, or schedule: 1f1b",
        ),
        (
            {
                "parallel": {"pp": 2, "schedule": "dualpipe", "zero_stage": 1},
                "data_parallel": {"grad_reduce": {"every": "micro_batch"}},
            },
            "data_parallel.grad_reduce.every: not modelled yet (micro_batch with schedule dualpipe, whose backwards run "
            "beside forwards); use every: step, or schedule: 1f1b",
        ),
    ],
)  # fmt: skip
def test_contradictions_are_refused_with_the_way_out(sections: dict[str, Any], expected: str) -> None:
    assert expected in refused(**sections)


@pytest.mark.parametrize(
    ("zero", "plan", "expected"),
    [
        (3, {}, ""),
        (3, {"hsdp_group": 8}, ""),
        (1, {"hsdp_group": 4, "bucket_bytes": 1000, "param_gather": {"overlap": True, "dtype": "fp32"}}, ""),
        (3, {"bucket_bytes": 1000}, "bucket_bytes: has no meaning with zero_stage 3"),
        (1, {"bucket_bytes": 1000, "grad_reduce": {"overlap": False}}, "bucket_bytes: has no meaning where nothing is red"),
        (2, {"bucket_bytes": 1000, "grad_reduce": {"overlap": False}}, ""),
        (1, {"reshard_after_forward": False}, "reshard_after_forward: has no meaning with zero_stage 1"),
        (2, {"sharded_copies": "flat"}, "sharded_copies: has no meaning with zero_stage 2"),
        (0, {"param_gather": {"overlap": True}}, "param_gather: has no meaning with zero_stage 0"),
        (0, {"param_gather": {"dtype": "fp32"}}, "param_gather: has no meaning with zero_stage 0"),
        (0, {"hsdp_group": 4}, "hsdp_group: has no meaning with zero_stage 0: nothing is shared"),
        (1, {"hsdp_group": 16}, "hsdp_group: has no meaning with dp 16: all ranks share as one group anyway"),
    ],
)  # fmt: skip
def test_keys_without_meaning_are_told(zero: int, plan: dict[str, Any], expected: str) -> None:
    found = warned(parallel={"zero_stage": zero}, data_parallel=plan)
    assert len(found) == (expected != "")
    assert not expected or expected in found[0]


def test_what_nobody_shares_is_told() -> None:
    (text,) = warned(parallel={"ep": 16})
    assert "parallel.zero_stage: 3 shares nothing of the routed experts: each has one holder (edp 1)" in text
    alone = {"cluster": {"num_gpus": 1}}
    (text,) = warned(**alone, parallel={"ep": 1})
    assert "parallel.zero_stage: has no meaning with dp 1" in text
    (text,) = warned(**alone, parallel={"ep": 1, "zero_stage": 1}, data_parallel={"grad_reduce": {"overlap": False}})
    assert "data_parallel: has no meaning with dp 1" in text
    assert not warned(**alone, parallel={"ep": 1, "zero_stage": 1}, data_parallel={"grad_reduce": {"dtype": "bf16"}})
    wide = {"tp": 8, "sequence_parallel": True, "ep": 2}
    assert not warned(cluster={"num_gpus": 8}, parallel=wide), "dp is 1, but an expert has four holders"
    (text,) = warned(parallel={"overlap": {"dp": False}}, data_parallel={"param_gather": {"overlap": True}})
    assert "param_gather.overlap: has no meaning with parallel.overlap.dp: false" in text


def test_no_sync_of_a_single_micro_batch_is_told_and_changes_nothing() -> None:
    plan, one = {"grad_reduce": {"every": "step"}}, {"global_batch_size": 16}
    (text,) = warned(training=one, data_parallel=plan)
    assert "grad_reduce.every: step has no meaning with one micro-batch a step" in text
    assert not warned(data_parallel=plan)
    base, step = (simulate_step(load_scenario(changed(MOE, training=one, data_parallel=each))) for each in ({}, plan))
    assert base == step


def test_a_schedule_with_pairs_has_one_bucket_a_stage() -> None:
    paired = {"pp": 2, "schedule": "dualpipe", "zero_stage": 1}
    for plan in ({"bucket_bytes": 1000}, {"param_gather": {"overlap": True}}):
        (text,) = warned(parallel=paired, data_parallel=plan)
        assert "has no meaning in dualpipe: a stage's gradients and parameters stand on two ranks" in text
