"""Grouped-query attention (multi-head attention where num_kv_heads = num_heads): norm, fused q/k/v, rope, core, output.

Megatron-Core's product has the queries of each key head in front of the key and the value: queries of several key heads are
copied together before they are rotated, and the three gradients are put side by side (NVIDIA/Megatron-LM core_v0.9 to v0.18
core/transformer/attention.py, get_query_key_value_tensors; Transformer Engine's SplitAlongDim). Without rope, attention reads
and writes them where they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from simulator.scenario.model import GqaAttention
from simulator.workload import counting as c
from simulator.workload.counting import AttentionCore
from simulator.workload.layers import tensor_parallel as tp
from simulator.workload.layers.attention import ATTENTIONS, AttentionKind
from simulator.workload.layers.context_parallel import run_core
from simulator.workload.layers.linear import column_dgrad, own_operands, row_dgrad
from simulator.workload.layers.part import Weights
from simulator.workload.op import Op, Pass, Work
from simulator.workload.recipe import Recipe
from simulator.workload.saved import BlockBuilder


def core(a: GqaAttention) -> AttentionCore:
    """Queries, keys and values have one head size."""
    return AttentionCore(a.num_heads, a.num_kv_heads, a.head_dim, a.head_dim, a.window)


def _run_core(a: GqaAttention, r: Recipe, phase: Pass) -> Iterator[Work]:
    """The core, forward or backward. Keys and values of fewer heads may be repeated in front of it; backward the gradients of
    what was repeated are summed.
    """
    run = core(a).run_by(r.attention)
    if not r.repeats_heads or a.num_kv_heads == a.num_heads:
        yield from run_core(run, r, phase)
        return
    few, many = (4 * r.tokens * heads * a.head_dim for heads in (a.num_kv_heads, a.num_heads))
    if phase == "F":
        yield c.moved("kv_heads_repeat", "copy", "F", few, many, kernels=2)
    yield from run_core(replace(run, kv_heads=a.num_heads), r, phase)
    if phase == "I":
        yield c.moved("kv_heads_sum", "copy", "I", many, few, kernels=2)


def _rope(a: GqaAttention, r: Recipe, ending: str, phase: Pass) -> Iterator[Op]:
    """Queries and keys rotated, or their gradients back."""
    rotate = c.rope if a.rope_scale == 1.0 or r.fuses_scaled_rope else c.scaled_rope
    yield rotate(f"q_rope{ending}", r.tokens * a.num_heads * a.head_dim, phase)
    yield rotate(f"k_rope{ending}", r.tokens * a.num_kv_heads * a.head_dim, phase)


def qkv_width(a: GqaAttention) -> int:
    """Output columns of the fused q/k/v projection."""
    return (a.num_heads + 2 * a.num_kv_heads) * a.head_dim


def forward(a: GqaAttention, hidden: int, r: Recipe) -> Iterator[Work]:
    """Operators from the layer's input to the attention output, residual added."""
    t, s, out = r.tokens, r.sequence_tokens, a.num_heads * a.head_dim
    yield from r.casts.norm("attn_norm", s, hidden)
    yield from r.casts.normed("qkv_quantise", s, hidden)
    yield from tp.gather_input("qkv", hidden, r)
    yield c.fprop("qkv", r.gemm_dtype, t, qkv_width(a), hidden)
    if r.groups_heads and a.rope and 1 < a.num_kv_heads < a.num_heads:
        yield c.copy("q_ungroup", t * out, t * out)
    if a.qk_norm:
        yield c.rmsnorm("q_norm", t * a.num_heads, a.head_dim)
        yield c.rmsnorm("k_norm", t * a.num_kv_heads, a.head_dim)
    if a.rope:
        yield from _rope(a, r, "", "F")
    yield from _run_core(a, r, "F")
    yield from r.casts.operand("o_quantise", t, out)
    yield c.fprop("o", r.gemm_dtype, t, hidden, out)
    yield from tp.reduce_output("o", hidden, r)
    yield c.add("attn_residual", s * hidden)


def backward_input(a: GqaAttention, hidden: int, r: Recipe) -> Iterator[Work]:
    """Input gradient, with the norm's recompute where the recipe says so."""
    t, s, out = r.tokens, r.sequence_tokens, a.num_heads * a.head_dim
    if "gemms" in r.recompute:
        yield from c.again(_second_gemms(a, hidden, r))
    yield from row_dgrad(r, "o", hidden, out, own_operands("o", hidden, out))
    if "attention" in r.recompute:
        yield from c.again(_run_core(a, r, "F"))
    yield from _run_core(a, r, "I")
    if a.rope:
        yield from _rope(a, r, "_bwd", "I")
    if a.qk_norm:
        yield c.rmsnorm_bwd("q_norm_bwd", t * a.num_heads, a.head_dim)
        yield c.rmsnorm_bwd("k_norm_bwd", t * a.num_kv_heads, a.head_dim)
    if r.groups_heads and a.rope:
        yield c.copy("qkv_grad_join", t * qkv_width(a), t * qkv_width(a), "I")
    if "rmsnorm" in r.recompute:
        yield c.rmsnorm("attn_norm_recompute", s, hidden, "I")
    yield from column_dgrad(r, "qkv", qkv_width(a), hidden, own_operands("qkv", qkv_width(a), hidden))
    yield c.add("attn_input_grad", s * hidden, "I")
    yield c.rmsnorm_bwd("attn_norm_bwd", s, hidden)


def _second_gemms(a: GqaAttention, hidden: int, r: Recipe) -> Iterator[Op]:
    """What the layer's backward needs of every second of its GEMMs: keys, and the output behind the core, with what stands
    between them. With tensor parallelism the reduced output is kept: it is no GEMM's.
    """
    keys, out = a.num_kv_heads * a.head_dim, a.num_heads * a.head_dim
    yield c.fprop("k", r.gemm_dtype, r.tokens, keys, hidden)
    if a.rope:
        yield from _rope(a, r, "", "F")
    if r.tp == 1:
        yield c.fprop("o", r.gemm_dtype, r.tokens, hidden, out)
        yield c.add("attn_residual", r.sequence_tokens * hidden)


def backward_weight(a: GqaAttention, hidden: int, r: Recipe) -> Iterator[Op]:
    """The two weight gradients, and those of biases."""
    yield c.wgrad("o_wgrad", r.gemm_dtype, r.tokens, hidden, a.num_heads * a.head_dim)
    yield c.wgrad("qkv_wgrad", r.gemm_dtype, r.tokens, qkv_width(a), hidden)
    if a.bias:
        yield c.bias_grad("o_bias_grad", r.tokens, hidden)
        yield c.bias_grad("qkv_bias_grad", r.tokens, qkv_width(a))


def weights(a: GqaAttention, hidden: int) -> Weights:
    """Projections and their biases; a sink a head; qk_norm: one norm of a head's width each for queries and keys."""
    own = Weights(hidden * (qkv_width(a) + a.num_heads * a.head_dim), 2 * a.head_dim if a.qk_norm else 0)
    cut = (qkv_width(a) if a.bias else 0) + (a.num_heads if a.sinks else 0)
    return own + Weights(0, cut + (hidden if a.bias else 0), cut_other=cut)


def save_projections(block: BlockBuilder, a: GqaAttention, t: int, s: int) -> None:
    """Queries, keys and values; with norms on the heads also their inputs."""
    q_width, kv_width = a.num_heads * a.head_dim, a.num_kv_heads * a.head_dim
    if a.qk_norm:
        block.keep("attn.qk_before_norm", "bf16", t * (q_width + kv_width))
    block.keep("attn.q", "bf16", t * q_width)
    block.keep("attn.k", "bf16", t * kv_width, recomputed="gemms" in block.recipe.recompute)
    block.keep("attn.v", "bf16", t * kv_width)
    block.gradient("attn.qkv_grad", t * (q_width + 2 * kv_width))


ATTENTIONS.add("gqa", AttentionKind(core, weights, forward, backward_input, backward_weight, save_projections))
