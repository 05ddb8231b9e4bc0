"""Exactly the operands of weight gradients wait for a deferred weight pass: counted from the weight gradients themselves."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.assembly.memory_peak import peak_of
from simulator.scenario.model import DenseFfn, GqaAttention, MlaAttention, ModelSpec, MoeFfn, Mtp
from simulator.schedule.action import Action, Kind
from simulator.workload.casts.casts import Casts
from simulator.workload.casts.separate import SeparateCasts
from simulator.workload.counting import operand_bytes
from simulator.workload.layers.part import PARTS
from simulator.workload.op import Op
from simulator.workload.recipe import Recipe
from simulator.workload.saved import ActivationRecipe
from simulator.workload.tensors import BlockMemory, total_bytes
from tests.workload.memory_cases import MODULES

TOKENS, HIDDEN = 256, 384
ATTENTIONS = {
    "mla": MlaAttention(
        kind="mla", num_heads=4, q_lora_rank=256, kv_lora_rank=128, qk_nope_head_dim=128, qk_rope_head_dim=64,
        v_head_dim=128,
    ),
    "gqa": GqaAttention(kind="gqa", num_heads=4, num_kv_heads=2, head_dim=128, qk_norm=True),
}  # fmt: skip
SHARED_INPUTS = {("q_down", "kv_down")}
"""Linear layers that take the same input: it is kept once."""


def model(attention: str) -> ModelSpec:
    return ModelSpec(
        name="small", hidden_size=HIDDEN, num_layers=2, vocab_size=1280, attention=ATTENTIONS[attention],
        dense_ffn=DenseFfn(intermediate_size=640), num_dense_layers=1, mtp=Mtp(num_modules=1),
        moe=MoeFfn(num_routed_experts=8, num_shared_experts=1, top_k=2, expert_intermediate_size=256),
    )  # fmt: skip


def weight_gradients(spec: ModelSpec, code: str, dtype: str) -> list[Op]:
    """Weight gradients of a part that a schedule may defer."""
    is_fp8 = dtype != "bf16"
    recipe = Recipe(
        1, TOKENS, SeparateCasts() if is_fp8 else Casts(), is_fp8, frozenset(), is_fp8, is_fp8, 1, 1, 1.0, 1.0
    )
    ops = [op for unit in PARTS[code].units(spec, recipe) for op in unit.ops()]
    return [op for op in ops if op.shape.variant == "wgrad" and op.phase == "W"]


def operands(gradients: list[Op]) -> int:
    """Bytes of dy[rows, m] and x[rows, n] of each dw[m, n], an input that two layers share once."""
    names = {op.name.removesuffix("_wgrad"): op.shape for op in gradients}
    shared = [names[second] for first, second in SHARED_INPUTS if first in names and second in names]
    each = sum(operand_bytes(s.dtype, s.k * s.m) + operand_bytes(s.dtype, s.k * s.n) for s in names.values())
    heads = [op.shape for op in gradients if op.name == "head_wgrad"]
    assert len(names) + max(0, len(heads) - 1) == len(gradients)
    return each - sum(operand_bytes(s.dtype, s.k * s.n) for s in shared)


def saving(dtype: str, modules: frozenset[str] = frozenset()) -> ActivationRecipe:
    plain = ActivationRecipe(tokens=TOKENS, recompute=modules)
    if dtype == "bf16":
        return plain
    return replace(
        plain, act_dtype="fp8-block", dispatch_dtype="fp8-block", attn_out_dtype="e5m6", swiglu_in_dtype="fp8-block"
    )


def waiting(blocks: tuple[BlockMemory, ...]) -> int:
    """Bytes between I and W."""
    kept = sum(total_bytes(tensor for tensor in block.saved if tensor.until == "W") for block in blocks)
    return kept + sum(total_bytes(block.deferred) for block in blocks)


@settings(max_examples=60, deadline=None)
@given(
    attention=st.sampled_from(sorted(ATTENTIONS)),
    code=st.sampled_from(["d", "m", "mtp", "L"]),
    dtype=st.sampled_from(["bf16", "fp8-block"]),
    modules=st.frozensets(st.sampled_from(MODULES), max_size=3),
)
def test_exactly_the_operands_of_weight_gradients_wait(
    attention: str, code: str, dtype: str, modules: frozenset[str]
) -> None:
    """Whatever is recomputed: between I and W there is what W multiplies and nothing else."""
    spec = model(attention)
    assert waiting(PARTS[code].saved(spec, saving(dtype, modules))) == operands(weight_gradients(spec, code, dtype))


@pytest.mark.parametrize("attention", sorted(ATTENTIONS))
@pytest.mark.parametrize("code", ["d", "m"])
@pytest.mark.parametrize("dtype", ["bf16", "fp8-block"])
@pytest.mark.parametrize("deferred", [1, 3])
def test_each_deferred_weight_pass_adds_its_operands_to_the_peak(
    attention: str, code: str, dtype: str, deferred: int
) -> None:
    spec = model(attention)
    blocks = PARTS[code].saved(spec, saving(dtype))

    def order(passes: int) -> list[Action]:
        both: list[Kind] = ["F", "I"]
        started = [Action(kind, 0, i) for i in range(passes) for kind in both]
        return [*started, *(Action("W", 0, i) for i in range(passes))]

    alone, late = peak_of(order(1), [blocks]), peak_of(order(1 + deferred), [blocks])
    assert late.num_bytes - alone.num_bytes == deferred * operands(weight_gradients(spec, code, dtype))
    assert sum(late.contents.values()) == late.num_bytes
    assert late.action_idx == 2 * deferred + alone.action_idx
