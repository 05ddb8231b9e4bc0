"""What of a scenario reaches the counting: every format, size and number from its own key."""

from __future__ import annotations

from dataclasses import replace
from math import fsum, sqrt

import pytest

from simulator.scenario.derived import expert_group_sequences
from simulator.workload.counted import count_workload, recipe_of
from simulator.workload.layers.experts import padded_rows
from simulator.workload.memory import activation_recipe
from simulator.workload.op import Workload
from simulator.workload.routing_model import RoutingStatistics
from tests.workload.memory_cases import ASSUMED, V3, scenario

ROUTING = RoutingStatistics(0.1, 0.0, 3.5, 7.25, 1.3, 0.1, 0.0, 1.1, 0.0)
SELECTIVE = {"granularity": "selective", "modules": ["rmsnorm"]}


@pytest.mark.parametrize("dispatch", ["bf16", "fp8"])
@pytest.mark.parametrize("attn_out", ["bf16", "e5m6"])
@pytest.mark.parametrize("swiglu_in", ["bf16", "fp8"])
def test_each_format_comes_from_its_own_key(dispatch: str, attn_out: str, swiglu_in: str) -> None:
    saved = {"attn_out": attn_out, "swiglu_in": swiglu_in}
    plan = scenario(moe={"dispatch_dtype": dispatch}, recompute={**SELECTIVE, "saved": saved})
    found = recipe_of(plan, 8, ROUTING)
    assert found.gemm_dtype == "fp8-block"
    formats = found.dispatch_fp8, found.save_attn_out_e5m6, found.save_swiglu_fp8
    assert formats == (dispatch == "fp8", attn_out == "e5m6", swiglu_in == "fp8")
    assert found.recompute == {"rmsnorm"}


def test_sizes_and_destinations_of_a_micro_batch() -> None:
    plan = scenario(training={"seq_len": 2048, "micro_batch_size": 2, "global_batch_size": 15360})
    found = recipe_of(plan, 8, ROUTING)
    assert (found.batch, found.seq, found.tokens) == (2, 2048, 4096)
    assert (found.ep, found.nodes, found.nodes_per_token, found.ranks_per_token) == (64, 8, 3.5, 7.25)
    assert (recipe_of(plan, 1, None).nodes_per_token, recipe_of(plan, 1, None).ranks_per_token) == (1.0, 1.0)


def test_rows_are_padded_to_the_row_tile_of_fp8_kernels_only() -> None:
    """DeepGEMM's grouped kernels align the rows of an expert to 128 (get_m_alignment_for_contiguous_layout)."""
    assert recipe_of(scenario(), 8, ROUTING).row_padding == 128
    assert recipe_of(scenario(precision={"recipe": "bf16"}), 8, ROUTING).row_padding == 1
    padded = recipe_of(scenario(precision={"recipe": "mxfp8", "fp8_weight_cache": "per_step"}), 8, ROUTING)
    assert padded.row_padding == 32, "Transformer Engine: get_align_size_for_quantization"
    for name in ("fp8-blockwise", "bf16"):
        given = scenario(precision={"recipe": name}, moe={"row_padding": 64})
        assert recipe_of(given, 8, ROUTING).row_padding == activation_recipe(given, ASSUMED).row_padding == 64


@pytest.mark.parametrize("recipe", ["bf16", "fp8-blockwise"])
def test_as_many_rows_are_kept_as_are_computed(recipe: str) -> None:
    """FP8 kernels pad the rows of an expert, and BF16 ones do not."""
    plan = scenario(precision={"recipe": recipe}, moe={"balance": "forced"})
    kept = activation_recipe(plan, ASSUMED)
    assert V3.moe is not None
    assert kept.expert_rows(V3.moe, kept.expert_rows_frac) == padded_rows(V3.moe, recipe_of(plan, 8, ROUTING))


def test_the_head_runs_over_the_padded_vocabulary() -> None:
    """129,281 words are 1,011 times 128 with the padding; two hidden states of BF16 a token leave a stage."""
    workload = count_workload(scenario(model=V3.model_copy(update={"vocab_size": 129281})), 8, ROUTING)
    heads = [op for stage in workload.stages for unit in stage.units for op in unit.ops() if op.name == "head"]
    assert heads and all(op.shape.n == 1011 * 128 for op in heads)
    assert workload.boundary_bytes == 4096 * 7168 * 2


def flop_of(workload: Workload) -> list[float]:
    return [fsum(op.flop for unit in stage.units for op in unit.ops()) for stage in workload.stages]


def test_without_imbalance_every_stage_is_the_median_one() -> None:
    uneven = flop_of(count_workload(scenario(), 8, ROUTING))
    even = count_workload(scenario(mechanisms={"stage_imbalance": False}), 8, ROUTING)
    assert len(set(uneven)) > 1
    assert set(flop_of(even)) == {sorted(uneven)[len(uneven) // 2]}
    assert [stage.stage for stage in even.stages] == list(range(len(uneven)))


def test_experts_of_a_rank_are_as_uneven_as_the_router_leaves_them_beyond_the_rank() -> None:
    """Variance of an expert's rows less that of the rank's; nothing where loads are even or rows padded to whole tiles."""
    found = replace(ROUTING, noise_cv=0.3, persistent_cv=0.0, expert_between=64 * 0.25, expert_inside=0.0)
    plan = scenario(precision={"recipe": "bf16"})
    sequences, _ = expert_group_sequences(plan)
    assert recipe_of(plan, 8, found).expert_rows_cv == pytest.approx(sqrt(16.0 / sequences - 0.09))
    even = scenario(precision={"recipe": "bf16"}, mechanisms={"imbalance": False})
    assert recipe_of(even, 8, found).expert_rows_cv == recipe_of(plan, 8, None).expert_rows_cv == 0.0
    for recipe, cv in (("bf16", recipe_of(plan, 8, found).expert_rows_cv), ("fp8-blockwise", 0.0)):
        stages = count_workload(scenario(precision={"recipe": recipe}), 8, found).stages
        ops = [op for stage in stages for unit in stage.units for op in unit.ops()]
        assert {op.shape.rows_cv for op in ops if op.shape.groups > 1} == {cv}
