"""FSDP with 8-bit GEMMs: each GEMM casts the gathered weight that it reads, and nothing is cast once a step."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from simulator import load_scenario
from simulator.errors import InputError
from simulator.scenario.scenario import Scenario
from simulator.step.step import simulate_step
from simulator.workload.casts.weights import weight_casts
from simulator.workload.counted import count_workload
from simulator.workload.model_state import stage_params
from simulator.workload.op import Op, StageWorkload

BASE = (
    "llama-3.1-70b", "cluster.num_gpus=16", "parallel.pp=1", "model.num_layers=2", "model.num_dense_layers=2", "draws=1",
    "training.global_batch_size=64", "training.seq_len=1024", "precision={recipe: fp8-tensor, scaling: delayed}",
)  # fmt: skip
MOE = (
    "mixtral-8x22b", "cluster.num_gpus=16", "parallel.pp=1", "parallel.ep=8", "model.num_layers=2", "draws=1",
    "training.global_batch_size=64", "training.seq_len=1024", "precision={recipe: fp8-tensor, scaling: delayed}",
)  # fmt: skip


def scenario(given: tuple[str, ...] = BASE, *options: str) -> Scenario:
    return load_scenario(given[0], [*given[1:], *options])


def stage(plan: Scenario) -> StageWorkload:
    return count_workload(plan, 1, None).stages[0]


def casts(plan: Scenario) -> Mapping[str, list[Op]]:
    found: dict[str, list[Op]] = {"F": [], "I": []}
    for op in (op for unit in stage(plan).units for op in unit.ops()):
        if op.name.endswith("_weight_cast"):
            found[op.phase].append(op)
    return found


@pytest.mark.parametrize("given", [BASE, MOE], ids=["dense", "moe"])
def test_every_gemm_casts_the_weight_that_it_reads(given: tuple[str, ...]) -> None:
    sharded = scenario(given, "parallel.zero_stage=3")
    found = casts(sharded)
    gemms = [
        op
        for unit in stage(sharded).units
        for op in unit.ops()
        if op.shape.dtype == "fp8-tensor" and op.shape.variant == "fprop" and op.phase == "F"
    ]
    weights = sum(op.shape.n * op.shape.k * op.shape.groups for op in gemms)
    assert weights > 0
    for phase in ("F", "I"):
        assert sum(op.bytes_read for op in found[phase]) == 2 * weights
    assert not list(weight_casts(sharded, stage(sharded)))
    held = scenario(given, "parallel.zero_stage=2")
    assert not any(casts(held).values())
    assert list(weight_casts(held, stage(held)))


def test_a_scale_of_the_tensor_itself_is_found_forward_only() -> None:
    plan = scenario(BASE, "parallel.zero_stage=3", "precision.scaling=current")
    found = [op.phase for unit in stage(plan).units for op in unit.ops() if op.name.endswith("_weight_amax")]
    assert found
    assert set(found) == {"F"}


def test_a_layer_that_is_computed_again_casts_again() -> None:
    plan = scenario(BASE, "parallel.zero_stage=3", "recompute=full")
    assert len(casts(plan)["I"]) == 2 * len(casts(scenario(BASE, "parallel.zero_stage=3"))["I"])


def test_a_maximum_that_is_read_first_takes_time() -> None:

    def step(*options: str) -> float:
        given = ("cluster.num_gpus=8", "training.seq_len=8192", *options)  # one node: gathers are hidden behind compute
        return simulate_step(scenario(BASE, *given)).step.step_s

    assert step("parallel.zero_stage=3", "precision.scaling=current") > step("parallel.zero_stage=3")


def test_memory_holds_one_cast_weight_at_a_time() -> None:
    def weights(*options: str) -> int:
        return simulate_step(scenario(BASE, *options)).memory.by_stage[0].weights_bytes

    sharded, plain = weights("parallel.zero_stage=3"), weights("parallel.zero_stage=3", "precision={recipe: bf16}")
    assert sharded - plain == 2 * 28672 * 8192  # gate and up projection in one, a byte each
    assert sharded < weights("parallel.zero_stage=2")


def test_what_is_not_modelled_is_refused() -> None:
    with pytest.raises(InputError, match=r"precision\.primary_weights: not modelled yet \(quantised with zero_stage 3"):
        scenario(BASE, "parallel.zero_stage=3", "precision.primary_weights=quantised")
    with pytest.raises(
        InputError, match=r"parallel\.zero_stage: not modelled yet \(3 with precision.recipe fp8-blockwise"
    ):
        scenario(
            BASE,
            "parallel.zero_stage=3",
            "precision={recipe: fp8-blockwise, scaling: null}",
            "kernels.casts=deepseek-2024",
        )


MX, NV = 33 / 32, 9 / 16
"""Bytes of an element, its scale included."""


@pytest.mark.parametrize(
    ("node", "precision", "expected"),
    [
        ("h100-x8", "{recipe: fp8-tensor, scaling: delayed}", {"weight_quantise": (2, 2)}),
        ("h100-x8", "{recipe: fp8-tensor, scaling: current}", {"weight_amax": (2, 0), "weight_quantise": (2, 2)}),
        ("h100-x8", "{recipe: fp8-tensor, scaling: delayed, primary_weights: quantised}", {"weight_turned": (1, 1)}),
        ("b200-x8", "{recipe: fp8-tensor, scaling: delayed}", {"weight_quantise": (2, 1)}),
        ("b200-x8", "{recipe: fp8-tensor, scaling: delayed, primary_weights: quantised}", {}),
        ("b200-x8", "{recipe: mxfp8}", {"weight_quantise": (2, 2 * MX)}),
        ("b200-x8", "{recipe: nvfp4}", {"weight_amax": (2, 0), "weight_quantise": (2, 2 * NV)}),
    ],
)
def test_weights_that_are_held_are_cast_once_a_step(
    node: str, precision: str, expected: Mapping[str, tuple[float, float]]
) -> None:
    """Bytes read and written of an element: Hopper reads FP8 along the reduced dimension and takes a transposed copy, Blackwell
    does not; scales of 32 or 16 have a direction, two copies; where no BF16 weights are held the optimizer writes the first.
    """
    plan = scenario(BASE, f"cluster.node={node}", "stack=null", f"precision={precision}", "parallel.zero_stage=1")
    found = {op.name: (op.bytes_read, op.bytes_written) for op in weight_casts(plan, stage(plan))}
    params = stage_params(stage(plan))
    count = params.dense_quantised + params.expert_quantised
    assert count > 1e8
    assert found.keys() == expected.keys()
    for name, (read, written) in expected.items():
        assert (found[name][0] / count, found[name][1] / count) == pytest.approx((read, written), rel=1e-3), name


def test_a_scaling_without_a_meaning_changes_nothing() -> None:
    """It is told so: NVFP4 reads every tensor for its maximum, however FP8 would find its scales."""
    nvfp4 = ("cluster.node=b200-x8", "stack=null", "precision.recipe=nvfp4")
    plain, stated = (
        scenario(BASE, *nvfp4, f"precision.scaling={given}", "parallel.zero_stage=1") for given in ("null", "delayed")
    )
    assert stage(stated) == stage(plain)
