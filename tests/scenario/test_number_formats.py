"""Which recipe, scale and software a scenario may name together, what is taken where it names none, and that it runs."""

from __future__ import annotations

import pytest

from simulator import load_scenario, simulate_step
from simulator.cli.app import main
from simulator.errors import InputError
from simulator.results.step_result import StepResult
from simulator.scenario.recipes import RECIPES
from simulator.workload.casts.choice import casts_of
from simulator.workload.casts.joint import JointCasts

DENSE = (
    "llama-3.1-70b",
    "cluster.num_gpus=8",
    "parallel={tp: 1, pp: 1}",
    "model.num_layers=4",
    "model.num_dense_layers=4",
)
SMALL = (*DENSE[1:], "training.global_batch_size=16", "training.seq_len=1024", "draws=1", "recompute.granularity=none")


def problem(preset: str, *options: str) -> str:
    with pytest.raises(InputError) as caught:
        load_scenario(preset, list(options))
    return str(caught.value)


@pytest.mark.parametrize("recipe", ["mxfp8", "nvfp4"])
def test_formats_with_scales_of_blocks_need_tensor_cores_that_read_them(recipe: str) -> None:
    text = problem("llama-3.1-70b", f"precision={recipe}")
    assert "precision.recipe" in text and "h100 has no" in text and "fp8-tensor" in text
    assert load_scenario("llama-3.1-70b", [f"precision={recipe}", "cluster.node=gb200-nvl72"]).warnings is not None


def test_a_gpu_that_reads_mxfp8_but_not_nvfp4_is_told_so() -> None:
    assert load_scenario("llama-3.1-70b", ["precision=mxfp8", "cluster.node=mi355x-x8"])
    assert "no tensor core that reads NVFP4 operands" in problem(
        "llama-3.1-70b", "precision=nvfp4", "cluster.node=mi355x-x8"
    )


def test_a_stack_without_gemms_of_the_format_is_refused_with_one_that_has_them() -> None:
    text = problem("deepseek-v3", "precision=fp8-tensor")
    assert "h800-deepseek-2024 holds no GEMMs of fp8-tensor operands; use stack: h800-transfer" in text
    assert load_scenario("deepseek-v3", ["precision=fp8-tensor", "stack=h800-transfer"])


def test_the_list_of_2024_has_no_kernels_for_later_formats() -> None:
    text = problem("llama-3.1-70b", "precision=fp8-tensor", "kernels.casts=deepseek-2024")
    assert "kernels.casts: deepseek-2024 has no kernels for recipe fp8-tensor; use transformer-engine-2025" in text
    assert "deepseek-2024" in problem("llama-3.1-70b", "kernels.casts=deepseek-2042"), "the nearest name"


@pytest.mark.parametrize(
    ("preset", "options", "expected"),
    [
        ("deepseek-v3", [], "deepseek-2024"),
        ("deepseek-v3", ["stack=h800-transfer"], "deepseek-2024"),
        ("deepseek-v3", ["stack=h800-transfer", "precision=fp8-tensor"], "transformer-engine-2025"),
        ("deepseek-v3", ["cluster.node=b200-x8"], "transformer-engine-2025"),
        ("deepseek-v3", ["cluster.node=b200-x8", "kernels.casts=deepseek-2024"], "deepseek-2024"),
        ("llama-3.1-70b", [], "transformer-engine-2025"),
    ],
)
def test_the_software_is_that_measured_on_the_gpu(preset: str, options: list[str], expected: str) -> None:
    assert load_scenario(preset, options).kernels.casts == expected


@pytest.mark.parametrize(
    ("option", "field"),
    [
        ("precision.scaling=delayed", "precision.scaling"),
        ("precision.primary_weights=quantised", "precision.primary_weights"),
        ("precision.bf16_first_layers=1", "precision.bf16_first_layers"),
    ],
)
def test_keys_of_other_recipes_are_told_to_have_no_meaning(option: str, field: str) -> None:
    warnings = load_scenario("llama-3.1-70b", [option]).warnings
    assert any(field in text and "has no meaning with recipe bf16" in text for text in warnings)


def test_more_bf16_layers_than_there_are_is_refused() -> None:
    options = ("precision={recipe: fp8-tensor, bf16_first_layers: 50, bf16_last_layers: 40}",)
    assert "50 layers at the start and 40 at the end of 80" in problem("llama-3.1-70b", *options)


def step(*options: str) -> StepResult:
    return simulate_step(load_scenario(DENSE[0], [*SMALL, "cluster.node=b200-x8", *options]))


def test_fewer_bits_are_faster_and_bf16_layers_between() -> None:
    names = ("bf16", "fp8-tensor", "mxfp8", "nvfp4")
    seconds = {name: step(f"precision={name}").step.step_s for name in names}
    assert seconds["nvfp4"] < min(seconds["fp8-tensor"], seconds["mxfp8"]) < seconds["bf16"]
    mixed = step("precision={recipe: nvfp4, bf16_first_layers: 1, bf16_last_layers: 1}")
    assert seconds["nvfp4"] < mixed.step.step_s < seconds["bf16"]
    delayed = step("precision={recipe: fp8-tensor, scaling: delayed}")
    assert delayed.step.step_s < seconds["fp8-tensor"], "no pass for the maximum"


def test_weights_that_are_only_held_cast_take_the_bytes_of_no_bf16_ones() -> None:
    both, cast = step("precision=mxfp8"), step("precision={recipe: mxfp8, primary_weights: quantised}")
    gemm = 4 * (8192 * (64 + 2 * 8 + 64) * 128 + 3 * 8192 * 28672)
    assert both.memory.peak_bytes_per_gpu - cast.memory.peak_bytes_per_gpu == 2 * gemm


@pytest.mark.parametrize(
    ("node", "scaling", "expected"),
    [
        ("b200-x8", "current", JointCasts("fp8-tensor", 1, reads_amax=True, norm_does="leaves_amax")),
        ("b200-x8", "delayed", JointCasts("fp8-tensor", 1, norm_does="fuses")),
        ("h100-x8", "delayed", JointCasts("fp8-tensor", 2, norm_does="fuses", turns=True)),
    ],
)
def test_the_casts_of_a_scale_a_tensor_follow_from_scaling_and_gpu(
    node: str, scaling: str, expected: JointCasts
) -> None:
    options = [f"precision={{recipe: fp8-tensor, scaling: {scaling}}}", f"cluster.node={node}"]
    assert casts_of(load_scenario("llama-3.1-70b", options)) == expected


def test_every_recipe_runs_from_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    node = ("cluster.node=b200-x8", "draws=1")
    for recipe in ("mxfp8", "nvfp4"):
        assert recipe in RECIPES
        options = [word for option in (*SMALL, *node, f"precision.recipe={recipe}") for word in ("--set", option)]
        assert main(["run", DENSE[0], *options]) == 0
        assert recipe in capsys.readouterr().out
