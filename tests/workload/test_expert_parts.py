"""What stands around experts where software has no kernel for it: bytes function by function, and where it is not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from simulator.scenario import derived
from simulator.scenario.model import ModelSpec
from simulator.scenario.model_catalog import load_model
from simulator.workload.casts.joint import JointCasts
from simulator.workload.layers.part import PARTS
from simulator.workload.op import Op
from simulator.workload.recipe import Recipe
from simulator.workload.saved import ActivationRecipe
from tests.workload.memory_cases import scenario
from tests.workload.test_layers_brute_force import GQA, MOE, TOKENS, model, recipe

ROWS, LOCAL, H, F = 2 * TOKENS, 2, 32, 12
GATE_LIMITED = [(2, 2)]
"""Forward: read and written bytes of an element of gate (limited above) and up (on both sides)."""
BESIDE = [(2, 2)]
ABOVE_BACKWARD = [(2, 1), (1 + 2, 2)]
BOTH_BACKWARD = [(2, 1), (2, 1), (1 + 1, 1), (1 + 2, 2)]
ROTATED = [(1, 1), (2, 2), (2, 2), (2, 2), (4, 2), (2, 2)]
"""Half negated, exchanged, times cosine, times sine, summed, put in front of what is not rotated."""
ROTATED_BACKWARD = [(2, 2), (2, 2), (1, 1), (2, 2), (4, 2), (0, 2), (2, 2), (0, 2), (4, 2)]


def total(functions: Sequence[tuple[int, int]], elements: int) -> tuple[int, int]:
    """Bytes read and written by functions that each pass `elements`."""
    return sum(read for read, _ in functions) * elements, sum(written for _, written in functions) * elements


def gpt_oss_like() -> ModelSpec:
    """The small model with what GPT-OSS has: biases and a limit in its experts, rotations that are scaled."""
    return model(GQA.model_copy(update={"rope_scale": 1.35})).model_copy(
        update={"moe": MOE.model_copy(update={"bias": True, "clamp": 7.0})}
    )


def ops(spec: ModelSpec, r: Recipe) -> dict[str, Op]:
    """Operators of a MoE layer by name."""
    return {op.name: op for op in PARTS["m"].units(spec, r)[0].ops()}


def unfused(*modules: str) -> Recipe:
    """BF16, with functions of their own."""
    return replace(recipe("bf16", modules), fuses_experts=False, fuses_scaled_rope=False)


def moved(op: Op) -> tuple[int, int]:
    return op.bytes_read, op.bytes_written


def test_functions_of_their_own_move_what_torch_moves() -> None:
    found = ops(gpt_oss_like(), unfused())
    f, rows = ROWS * F, ROWS * H
    once = [total(GATE_LIMITED, f), total(GATE_LIMITED, f), total(BESIDE, 2 * f)]
    assert moved(found["expert_clamp"]) == tuple(map(sum, zip(*once, strict=True)))
    back = [total(ABOVE_BACKWARD, f), total(BOTH_BACKWARD, f), total(BESIDE, 2 * f)]
    assert moved(found["expert_clamp_bwd"]) == tuple(map(sum, zip(*back, strict=True)))
    assert found["expert_clamp_bwd"].shape.num_kernels == len(ABOVE_BACKWARD) + len(BOTH_BACKWARD) + len(BESIDE) + 1
    assert moved(found["expert_bias"]) == total([(0, 2), (2 + 2, 2), (2, 2)], rows)
    assert moved(found["expert_bias_bwd"]) == total([(2, 2), (2, 2), (2, 0)], rows)
    assert found["expert_bias"].shape.num_kernels == 2 * LOCAL + 1
    assert moved(found["q_rope"]) == total(ROTATED, TOKENS * GQA.num_heads * GQA.head_dim)
    assert moved(found["k_rope_bwd"]) == total(ROTATED_BACKWARD, TOKENS * GQA.num_kv_heads * GQA.head_dim)


def test_fused_kernels_have_none_of_them() -> None:
    fused, plain = ops(gpt_oss_like(), recipe("bf16")), ops(model(GQA), unfused())
    added = {"expert_clamp", "expert_clamp_bwd", "expert_bias", "expert_bias_bwd"}
    assert not added & fused.keys() and not added & plain.keys()
    for found in (fused, plain):  # neither a fused kernel nor a rotation without a factor moves more than its elements
        assert moved(found["q_rope"]) == total([(2, 2)], TOKENS * GQA.num_heads * GQA.head_dim)


def test_a_recomputed_activation_is_limited_again_and_what_it_limits_is_not_kept() -> None:
    spec = gpt_oss_like()
    again = ops(spec, unfused("swiglu"))["expert_clamp_recompute"]
    assert moved(again) == moved(ops(spec, unfused())["expert_clamp"]) and again.phase == "I"
    kept = ActivationRecipe(tokens=TOKENS, ep=4, fuses_experts=False)
    sizes = {t.name: t.num_bytes for t in PARTS["m"].saved(spec, kept)[1].saved}
    assert sizes["expert.clamped"] == sizes["expert.swiglu_in"] == 2 * 2 * ROWS * F
    for r in (replace(kept, recompute=frozenset({"swiglu"})), replace(kept, fuses_experts=True)):
        assert "expert.clamped" not in {t.name for t in PARTS["m"].saved(spec, r)[1].saved}


def test_queries_of_several_key_heads_are_brought_together() -> None:
    """One key head a rank, or as many as queries, leave them in their places; without rope attention takes them as they are."""
    grouped, width = replace(recipe("bf16"), groups_heads=True), GQA.num_heads * GQA.head_dim
    found = ops(model(GQA), grouped)
    assert moved(found["q_ungroup"]) == total([(2, 2)], TOKENS * width)
    assert moved(found["qkv_grad_join"]) == total([(2, 2)], TOKENS * (width + 2 * GQA.num_kv_heads * GQA.head_dim))
    assert not {"q_ungroup", "qkv_grad_join"} & ops(model(GQA), recipe("bf16")).keys()
    for changes, joined in (({"num_kv_heads": 1}, True), ({"num_kv_heads": 4}, True), ({"rope": False}, False)):
        other = ops(model(GQA.model_copy(update=changes)), grouped)
        assert "q_ungroup" not in other and ("qkv_grad_join" in other) == joined


def test_rows_are_copied_into_padded_ones_and_out_of_them_in_both_directions() -> None:
    """Only where the format pads them at all."""
    padded = replace(recipe("bf16"), casts=JointCasts("mxfp8"), row_padding=32, pads_by_copy=True)
    names = {"expert_pad", "expert_unpad", "expert_pad_bwd", "expert_unpad_bwd"}
    found = ops(model(GQA), padded)
    assert names <= found.keys()
    for name in names:
        assert found[name].bytes_read == found[name].bytes_written == found["unpermute"].bytes_read
    for r in (replace(padded, pads_by_copy=False), replace(padded, row_padding=1)):
        assert not names & ops(model(GQA), r).keys()


def test_modules_pad_by_copies_what_does_not_arrive_padded() -> None:
    """Hybrid-EP pads in its permutation; experts that are filled to their capacity need none; the key says otherwise."""
    modules = {"kernels": {"autograd": "transformer_engine"}}
    assert derived.pads_by_copy(scenario(**modules))
    assert not derived.pads_by_copy(scenario())
    hybrid, filled = {"dispatcher": "hybridep"}, {"capacity_factor": 1.0, "drop": "probs", "pad_to_capacity": True}
    for moe in (hybrid, filled):
        assert not derived.pads_by_copy(scenario(moe=moe, **modules))
        assert derived.pads_by_copy(scenario(moe=moe | {"pad_copies": True}))


def test_the_catalogue_s_model_with_a_limit_says_so() -> None:
    spec = load_model("gpt-oss-120b")
    assert spec.moe is not None and spec.moe.clamp == 7.0 and spec.moe.bias
    assert spec.attention.model_dump()["rope_scale"] == pytest.approx(1.3466, abs=1e-4)
