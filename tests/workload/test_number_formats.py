"""Casts, saved formats and weight copies of each precision recipe, in bytes written out by hand.

One dense layer: 64 tokens, hidden size 256, 4 query and 2 key heads of 32, FFN 512 wide. A BF16 number has 2 bytes; FP8 with
one scale a tensor 1; MXFP8 1 and a byte for 32; NVFP4 half a byte and a byte for 16.
"""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator import load_scenario
from simulator.scenario.model import DenseFfn, GqaAttention, ModelSpec, MoeFfn
from simulator.scenario.recipes import RECIPES, SEPARATE, TE_2025, TE_2026, fusion
from simulator.scenario.software import SOFTWARE
from simulator.workload.casts.casts import Casts
from simulator.workload.casts.choice import casts_of
from simulator.workload.casts.joint import JointCasts
from simulator.workload.casts.separate import SeparateCasts
from simulator.workload.layers.part import PARTS
from simulator.workload.model_state import StageParams, StateRecipe, rank_states
from simulator.workload.op import Op
from simulator.workload.recipe import Recipe
from simulator.workload.saved import ActivationRecipe
from simulator.workload.stages import build_workload, stage_blocks
from simulator.workload.tensors import tensor_bytes, total_bytes, weight_bytes

T, H, F, Q, QKV = 64, 256, 512, 4 * 32, (4 + 2 * 2) * 32
MODEL = ModelSpec(
    name="small", hidden_size=H, num_layers=3, vocab_size=128, num_dense_layers=3,
    attention=GqaAttention(kind="gqa", num_heads=4, num_kv_heads=2, head_dim=32),
    dense_ffn=DenseFfn(intermediate_size=F),
)  # fmt: skip
EXPERTS = MODEL.model_copy(
    update={"num_dense_layers": 0, "moe": MoeFfn(num_routed_experts=4, top_k=2, expert_intermediate_size=F)}
)
BYTES = {"fp8-tensor": Fraction(1), "mxfp8": Fraction(33, 32), "nvfp4": Fraction(9, 16), "bf16": Fraction(2)}
"""Of an element, its scale included."""

CURRENT = JointCasts("fp8-tensor", copies=1, reads_amax=True, norm_does="leaves_amax")
DELAYED = JointCasts("fp8-tensor", copies=1, norm_does="fuses")
HOPPER = JointCasts("fp8-tensor", copies=2, norm_does="fuses", turns=True)
MXFP8 = JointCasts("mxfp8", norm_does="fuses")
NVFP4 = JointCasts("nvfp4", reads_amax=True, cast_kernel="quantise_hadamard")
GATHERED = {"qkv_input_turned", "ffn_up_input_turned", "o_grad_turned", "ffn_down_grad_turned"}


def recipe(casts: Casts, **changes: Any) -> Recipe:
    plain = Recipe(1, T, casts, False, frozenset(), False, False, 1, 1, 1.0, 1.0)
    return dataclasses.replace(plain, **changes)


def ops(casts: Casts, code: str = "d", model: ModelSpec = MODEL, **changes: Any) -> dict[str, Op]:
    units = PARTS[code].units(model, recipe(casts, **changes))
    return {op.name: op for unit in units for op in unit.ops()}


def moved(casts: Casts, *names: str, **changes: Any) -> tuple[int, ...]:
    """Bytes read and written of each operator."""
    found = ops(casts, **changes)
    return tuple(count for name in names for count in (found[name].bytes_read, found[name].bytes_written))


def test_mxfp8_casts_both_copies_from_bf16_in_the_norm_or_in_one_kernel() -> None:
    both = 2 * T * H * 33 // 32
    assert moved(MXFP8, "attn_norm", "ffn_norm") == (2 * T * H, both) * 2
    assert "qkv_quantise" not in ops(MXFP8) and "ffn_quantise" not in ops(MXFP8)
    names = ("o_quantise", "ffn_down_quantise", "qkv_grad_quantise", "ffn_up_grad_quantise")
    widths = (Q, F, QKV, 2 * F)
    expected = tuple(count for width in widths for count in (2 * T * width, 2 * T * width * 33 // 32))
    assert moved(MXFP8, *names) == expected
    assert not any(
        op.shape.op in {"transpose", "amax", "dequantise", "quantise_transpose"} for op in ops(MXFP8).values()
    )


def test_a_scale_of_the_tensor_now_costs_a_pass_over_it_unless_the_norm_took_its_maximum() -> None:
    found = ops(CURRENT)
    passes = {name: op for name, op in found.items() if op.shape.op == "amax"}
    assert passes.keys() == {
        "o_quantise_amax", "ffn_down_quantise_amax", "ffn_down_grad_quantise_amax", "ffn_up_grad_quantise_amax",
        "o_grad_quantise_amax", "qkv_grad_quantise_amax",
    }  # fmt: skip
    assert all(op.bytes_written == 0 for op in passes.values())
    assert found["o_quantise_amax"].bytes_read == 2 * T * Q
    assert moved(CURRENT, "attn_norm", "qkv_quantise") == (2 * T * H, 2 * T * H, 2 * T * H, T * H)
    assert moved(DELAYED, "attn_norm", "o_quantise") == (2 * T * H, T * H, 2 * T * Q, T * Q)
    assert not any(op.shape.op == "amax" for op in ops(DELAYED).values())


def test_hopper_reads_fp8_operands_along_the_reduced_dimension_and_so_needs_them_transposed() -> None:
    """A cast kernel writes both layouts; what a norm has cast is transposed from FP8."""
    assert moved(HOPPER, "attn_norm", "attn_norm_turned") == (2 * T * H, T * H, T * H, T * H)
    assert moved(HOPPER, "o_quantise", "o_grad_quantise") == (2 * T * Q, 2 * T * Q, 2 * T * H, 2 * T * H)


def test_nvfp4_reads_each_tensor_for_its_maximum_and_again_for_both_casts() -> None:
    both = 2 * T * H * 9 // 16
    assert moved(NVFP4, "attn_norm", "qkv_quantise_amax", "qkv_quantise") == (
        2 * T * H, 2 * T * H, 2 * T * H, 0, 2 * T * H, both,
    )  # fmt: skip
    assert ops(NVFP4)["qkv_quantise"].shape.op == "quantise_hadamard"
    assert moved(NVFP4, "o_grad_quantise_amax", "o_grad_quantise") == (2 * T * H, 0, 2 * T * H, both)


@pytest.mark.parametrize("casts", [CURRENT, DELAYED, HOPPER, MXFP8, NVFP4])
def test_attention_head_and_embedding_stay_in_bf16_and_the_layers_gemms_do_not(casts: JointCasts) -> None:
    stage = build_workload(MODEL, [("E", "d", "L")], recipe(casts)).stages[0]
    for op in (op for unit in stage.units for op in unit.ops() if op.shape.op not in {"transpose"}):
        if op.shape.bound == "gemm":
            assert op.shape.dtype == ("bf16" if op.name.startswith("head") else casts.dtype), op.name
        elif op.shape.bound == "attention":
            assert op.shape.dtype == "bf16"


def test_the_router_stays_in_bf16_and_experts_cast_the_rows_that_arrive_in_bf16() -> None:
    found = ops(MXFP8, "m", EXPERTS)
    assert {op.shape.dtype for name, op in found.items() if name.startswith("router") and op.shape.bound == "gemm"} == {
        "bf16"
    }
    rows, both = 2 * T, Fraction(2 * 33, 32)
    for name, width in {"expert_input_quantise": H, "expert_down_quantise": F, "expert_down_grad_quantise": H}.items():
        assert (found[name].bytes_read, found[name].bytes_written) == (2 * rows * width, both * rows * width)
    assert "dispatch_quantise" not in found
    sent = ops(MXFP8, "m", EXPERTS, dispatch_fp8=True)
    one = rows * H * 33 // 32
    assert (sent["expert_input_recast"].bytes_read, sent["expert_input_recast"].bytes_written) == (one, one)
    assert "expert_input_quantise" not in sent
    assert "expert_input_recast" not in ops(CURRENT, "m", EXPERTS, dispatch_fp8=True), "one copy serves both GEMMs"


def test_an_activation_that_casts_writes_no_bf16() -> None:
    fused = dataclasses.replace(MXFP8, activation_does="fuses")
    assert moved(fused, "ffn_swiglu", "ffn_swiglu_bwd") == (
        2 * T * 2 * F, 2 * T * F * 33 // 32, 2 * T * 3 * F, 2 * T * 2 * F * 33 // 32,
    )  # fmt: skip
    apart, together = (sum(op.shape.bytes for op in ops(casts).values()) for casts in (MXFP8, fused))
    assert together < apart


def kept(dtype: str, **changes: Any) -> dict[str, int]:
    plan = ActivationRecipe(tokens=T, act_dtype=dtype, keeps_casts=dtype != "bf16", **changes)
    return {tensor.name: tensor.num_bytes for block in stage_blocks(MODEL, ("d",), plan) for tensor in block.saved}


@pytest.mark.parametrize("dtype", ["fp8-tensor", "mxfp8", "nvfp4"])
def test_one_cast_copy_of_each_operand_is_saved_and_attention_keeps_its_bf16_output_too(dtype: str) -> None:
    saved, size = kept(dtype), BYTES[dtype]
    assert saved["attn.norm_out"] == saved["ffn.norm_out"] == size * T * H
    assert saved["attn.o_input"] == size * T * Q
    assert saved["ffn.swiglu_out"] == size * T * F
    assert (saved["attn.out"], saved["ffn.swiglu_in"], saved["attn.input"]) == (2 * T * Q, 4 * T * F, 2 * T * H)
    bf16 = kept("bf16")
    assert "attn.o_input" not in bf16, "the output projection reads what attention keeps"
    operands = T * (2 * H + Q + F)
    assert sum(bf16.values()) - sum(saved.values()) == 2 * operands - size * operands - 2 * T * Q


def test_casts_are_kept_although_norms_are_computed_again() -> None:
    assert kept("mxfp8", recompute=frozenset({"rmsnorm"})) == kept("mxfp8")


@given(elements=st.integers(1, 2**40).map(lambda n: 128 * n))
def test_fewer_bits_never_take_more_memory(elements: int) -> None:
    for count in (tensor_bytes, weight_bytes):
        sizes = [count(dtype, elements) for dtype in ("nvfp4", "fp8-tensor", "mxfp8", "bf16")]
        assert sizes == sorted(sizes)
        assert sizes == [BYTES[dtype] * elements for dtype in ("nvfp4", "fp8-tensor", "mxfp8", "bf16")]


@pytest.mark.parametrize(
    ("dtype", "two", "original", "expected"),
    [
        ("fp8-tensor", False, 1.0, 2 + 1),
        ("fp8-tensor", True, 1.0, 2 + 2),
        ("fp8-tensor", False, 0.0, 1),
        ("mxfp8", True, 1.0, 2 + 2 * Fraction(33, 32)),
        ("mxfp8", True, 0.0, 2 * Fraction(33, 32)),
        ("nvfp4", True, 0.0, 2 * Fraction(9, 16)),
    ],
)
def test_weights_are_held_in_bf16_and_in_every_copy_that_gemms_read(
    dtype: str, two: bool, original: float, expected: Fraction
) -> None:
    count = 3 * 128 * 128
    state = StateRecipe(dtype, keeps_quantised=True, keeps_transposed=two, bf16_copy_frac=original)
    (held,) = rank_states([StageParams(count, count, 0, 0)], state, [(0,)])
    assert total_bytes(held.weights) == expected * count


def test_layers_that_stay_in_bf16_are_the_first_and_the_last_of_the_model() -> None:
    plan, layout = recipe(NVFP4, bf16_layers=(1, 1)), [("E", "d", "d"), ("d", "L")]
    dtypes = [
        {op.shape.dtype for op in unit.ops() if op.shape.bound == "gemm"}
        for stage in build_workload(MODEL, layout, plan).stages
        for unit in stage.units
    ]
    assert dtypes == [{"bf16"}, {"nvfp4"}, {"bf16"}, {"bf16"}]
    memory = ActivationRecipe(tokens=T, act_dtype="nvfp4", keeps_casts=True, bf16_layers=(1, 1))
    plain = ActivationRecipe(tokens=T)
    assert stage_blocks(MODEL, ("d",), memory, 0) == stage_blocks(MODEL, ("d",), plain)
    assert stage_blocks(MODEL, ("d",), memory, 1) != stage_blocks(MODEL, ("d",), plain)
    assert stage_blocks(MODEL, ("d",), memory, 2) == stage_blocks(MODEL, ("d",), plain)


def test_what_a_norm_does_of_a_cast_follows_from_how_the_scale_is_found() -> None:
    assert fusion(RECIPES["fp8-tensor"], "delayed") == "fuses"
    assert fusion(RECIPES["fp8-tensor"], "current") == "leaves_amax"
    assert fusion(RECIPES["mxfp8"], None) == "fuses"
    assert fusion(RECIPES["nvfp4"], None) == fusion(RECIPES["fp8-blockwise"], None) == "none"


def test_a_router_in_one_kernel_reads_its_scores_once_and_the_rows_map_is_made_in_passes() -> None:
    plain, fused, old = (
        ops(MXFP8, "m", EXPERTS, software=SOFTWARE[name]) for name in (TE_2025, TE_2026, SEPARATE)
    )  # fmt: skip
    scores, rows = T * 4, 2 * T
    assert plain["router_select"] == old["router_select"]
    assert (fused["router_select"].bytes_read, fused["router_select"].bytes_written) == (8 * scores, 13 * scores)
    assert fused["router_select"].shape.num_kernels == 3 < plain["router_select"].shape.num_kernels
    assert fused["router_select_bwd"].shape.bytes < plain["router_select_bwd"].shape.bytes
    assert (plain["routing_map"].bytes_read, plain["routing_map"].bytes_written) == (5 * 4 * rows, 8 * 4 * rows)
    assert plain["routing_map"].shape.op == "row_map" and old["routing_map"].shape.op == "routing_map"


@pytest.mark.parametrize(
    ("casts", "size"),
    [
        (CURRENT, Fraction(1)), (HOPPER, Fraction(1)), (MXFP8, Fraction(2 * 33, 32)), (NVFP4, Fraction(2 * 9, 16)),
        (SeparateCasts(), Fraction(2)), (Casts(), Fraction(2)),
    ],
)  # fmt: skip
def test_output_gradients_are_gathered_as_they_were_cast(casts: Casts, size: Fraction) -> None:
    """Transformer Engine casts a rank's own tokens, then gathers; what is summed stays in BF16."""
    (unit,) = PARTS["d"].units(MODEL, recipe(casts, tp=2, shards_sequence=True))
    found = {each.name: each.num_bytes for each in unit.collectives()}
    assert found["o_grad_gather"] == found["ffn_down_grad_gather"] == size * T * H
    assert found["o_output_reduce"] == found["qkv_input_grad_reduce"] == 2 * T * H
    if casts.gathers_casts:
        own = {op.name: op.bytes_read for op in unit.ops()}
        assert own["o_grad_quantise"] == own["ffn_down_grad_quantise"] == 2 * (T // 2) * H
    (embedding,) = PARTS["E"].units(MODEL, recipe(casts, tp=2, shards_sequence=True))
    assert {each.num_bytes for each in embedding.collectives()} == {2 * T * H}


@pytest.mark.parametrize(
    ("casts", "copies"), [(HOPPER, 1), (CURRENT, 0), (MXFP8, 0), (SeparateCasts(), 0), (Casts(), 0)]
)
def test_what_is_gathered_with_one_scale_is_turned_whole_where_gemms_read_one_layout(casts: Casts, copies: int) -> None:
    """On every rank: the two inputs that are gathered again for the weight gradients, and the two output gradients."""
    for cut in (True, False):
        (unit,) = PARTS["d"].units(MODEL, recipe(casts, tp=2, shards_sequence=cut))
        turned = {op.name: (op.bytes_read, op.bytes_written, op.phase) for op in unit.ops() if op.name in GATHERED}
        assert turned == (dict.fromkeys(GATHERED, (T * H, T * H, "I")) if cut and copies else {})


def test_a_product_that_is_computed_again_is_cast_for_the_weight_gradient_alone() -> None:
    """Its forward copy is not read a second time: one copy, whose scales run along the tokens."""
    again = ops(MXFP8, recompute=frozenset({"swiglu"}))["ffn_down_input_again"]
    assert (again.bytes_read, again.bytes_written) == (2 * T * F, T * F * BYTES["mxfp8"])
    assert "ffn_down_input_again" not in ops(MXFP8)


@pytest.mark.parametrize(
    ("node", "precision", "expected"),
    [
        ("h100-x8", "{recipe: fp8-tensor, scaling: delayed}", HOPPER),
        ("b200-x8", "{recipe: fp8-tensor, scaling: delayed}", DELAYED),
        ("b200-x8", "{recipe: fp8-tensor, scaling: current}", CURRENT),
        ("b200-x8", "{recipe: mxfp8}", MXFP8),
        ("b200-x8", "{recipe: nvfp4}", NVFP4),
        ("b200-x8", "{recipe: bf16}", Casts()),
    ],
)
def test_recipe_and_gpu_lead_to_casts(node: str, precision: str, expected: Casts) -> None:
    options = [f"cluster.node={node}", "stack=null", f"precision={precision}", "kernels.casts=null"]
    assert casts_of(load_scenario("llama-3.1-70b", options)) == expected
