"""What a layer calls of a library's modules, in order: one tape a block, its segments named as the layer's operators are."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from simulator.scenario.model import GqaAttention, MlaAttention, ModelSpec, MoeFfn
from simulator.workload.plain import biased, matrices, modules
from simulator.workload.plain import functions as f
from simulator.workload.plain.products import attended, linear
from simulator.workload.plain.tape import Kept, Launch, Tape, Value


@dataclass(frozen=True, slots=True)
class Traced:
    """One block of one micro-batch. forward, backward: launches by segment; kept: what autograd keeps; working_*: bytes that
    are there beside it at the fullest instant of a pass.
    """

    forward: dict[str, tuple[Launch, ...]]
    backward: dict[str, tuple[Launch, ...]]
    kept: tuple[Kept, ...]
    working_forward: int
    working_backward: int


def _traced(t: Tape, out: Value, *, is_strided: bool = False) -> Traced:
    t.walk_back(out, is_strided=is_strided)
    forward, backward = ({name: tuple(each) for name, each in side.items()} for side in (t.forward, t.backward))
    return Traced(forward, backward, tuple(t.kept.values()), t.working_forward, max(0, t.working_backward))


def _norm(t: Tape, x: Value, segment: str, *, is_wide: bool = False) -> Value:
    """is_wide: its weight is applied in FP32."""
    t.segment = segment
    return biased.rms_norm(t, x) if is_wide else modules.rms_norm(t, x)


def has_sinks(model: ModelSpec) -> bool:
    """Whether attention has sinks: of the library's models those of gpt-oss, whose modules differ with it."""
    return isinstance(model.attention, GqaAttention) and model.attention.sinks


@cache
def attention_block(model: ModelSpec, tokens: int, seq: int) -> Traced:
    """Norm, projections, rotary embedding, core, output projection. seq: tokens of a sequence."""
    t, h = Tape(), model.hidden_size
    hidden = t.value(tokens * h, h)
    x = _norm(t, hidden, "attn_norm", is_wide=has_sinks(model))
    a = model.attention
    if isinstance(a, GqaAttention):
        q, k, v = _gqa(t, x, a)
    else:
        assert isinstance(a, MlaAttention)
        q, k, v = _mla(t, x, a)
    if has_sinks(model):
        t.segment = "core"
        out = f.contiguous(t, f.transposed(t, matrices.attended(t, q, k, v, seq)))
    else:
        t.segment = "attn"
        out = f.transposed(t, attended(t, q, k, v))
    flat = t.view(out, width=a.output_width, is_strided=out.is_strided)
    t.put(flat, lambda strided: iter([(out, strided)]))
    t.segment = "o"
    return _with_residual(t, hidden, linear(t, flat, h))


def _with_residual(t: Tape, hidden: Value, out: Value) -> Traced:
    t.segment = "residual"
    return _traced(t, f.plus(t, hidden, out))


def _gqa(t: Tape, x: Value, a: GqaAttention) -> tuple[Value, Value, Value]:
    found = []
    for name, heads in (("q", a.num_heads), ("k", a.num_kv_heads), ("v", a.num_kv_heads)):
        t.segment = "qkv"
        part = _heads(t, linear(t, x, heads * a.head_dim), a.head_dim)
        if a.qk_norm and name != "v":
            part = _norm(t, part, f"{name}_norm")
        part = f.transposed(t, part)
        if a.rope and name != "v":
            t.segment = f"{name}_rope"
            part = biased.rotary(t, part) if a.sinks else modules.rotary(t, part)
        found.append(part)
    q, k, v = found
    return q, k, v


def _heads(t: Tape, x: Value, head_dim: int) -> Value:
    """x.view(…, heads, head_dim)."""
    seen = t.view(x, width=head_dim, is_strided=x.is_strided)
    return t.put(seen, lambda strided: iter([(x, strided)]))


def _mla(t: Tape, x: Value, a: MlaAttention) -> tuple[Value, Value, Value]:
    """Queries; latents, their norm, keys and values projected up; rotated parts put behind the others."""
    t.segment = "q_up"
    latent = x
    if a.q_lora_rank:
        latent = _norm(t, linear(t, x, a.q_lora_rank), "q_latent_norm")
    t.segment = "q_up"
    head = a.qk_nope_head_dim + a.qk_rope_head_dim
    q = f.transposed(t, _heads(t, linear(t, latent, a.num_heads * head), head))
    q_pass, q_turn = f.split(t, q, a.qk_nope_head_dim, a.qk_rope_head_dim)
    t.segment = "kv_down"
    down = linear(t, x, a.kv_lora_rank + a.qk_rope_head_dim)
    kv, k_turn = f.split(t, down, a.kv_lora_rank, a.qk_rope_head_dim)
    kv = _norm(t, kv, "kv_latent_norm")
    t.segment = "rope"
    q_turn, k_turn = modules.rotary_pairs(t, q_turn), modules.rotary_pairs(t, k_turn)
    q = f.joined(t, q_pass, q_turn)
    t.segment = "kv_up"
    wide = a.qk_nope_head_dim + a.v_head_dim
    up = f.transposed(t, _heads(t, linear(t, kv, a.num_heads * wide), wide))
    k_pass, v = f.split(t, up, a.qk_nope_head_dim, a.v_head_dim)
    t.segment = "k_join"
    k = f.joined(t, k_pass, _shared_by_heads(t, k_turn, a.num_heads), kernels=2)
    return q, k, v


def _shared_by_heads(t: Tape, x: Value, heads: int) -> Value:
    """x.expand over heads; backward the heads' gradients summed."""
    wide = t.view(x, elements=x.elements * heads, is_strided=True, is_sliced=True)

    def back(strided: bool) -> list[tuple[Value, bool]]:
        t.launch("reduce", wide.elements, wide.num_bytes, x.num_bytes)
        return [(x, False)]

    return t.put(wide, back)


@cache
def ffn_block(model: ModelSpec, tokens: int) -> Traced:
    """Norm and dense feed-forward network of three projections (or two, without a gate)."""
    t, h = Tape(), model.hidden_size
    dense = model.dense_ffn
    assert dense is not None, "a dense layer needs the model's dense_ffn section"
    hidden = t.value(tokens * h, h)
    x = _norm(t, hidden, "ffn_norm", is_wide=has_sinks(model))
    return _with_residual(t, hidden, _mlp(t, x, "ffn", dense.intermediate_size, dense.num_up > 1, h))


def _mlp(t: Tape, x: Value, name: str, width: int, is_gated: bool, hidden: int) -> Value:
    t.segment = f"{name}_up"
    gate = linear(t, x, width)
    up = linear(t, x, width) if is_gated else None
    t.segment = f"{name}_activation"
    product = f.activated(t, gate) if up is None else modules.gated(t, gate, up)
    t.segment = f"{name}_down"
    return linear(t, product, hidden)


@cache
def moe_block(model: ModelSpec, tokens: int) -> Traced:
    """Norm, router, experts by grouped products over sorted rows, shared experts."""
    t, h = Tape(), model.hidden_size
    m = model.moe
    assert m is not None, "a MoE layer needs the model's moe section"
    hidden = t.value(tokens * h, h)
    x = _norm(t, hidden, "ffn_norm", is_wide=has_sinks(model))
    t.segment = "router"
    exact = f.cast(t, x, "fp32") if m.score == "sigmoid" else x
    logits = linear(t, exact, m.num_routed_experts)
    weights = biased.router(t, logits, m) if has_sinks(model) else modules.router(t, logits, m)
    out = _experts(t, x, weights, m, tokens * m.top_k)
    if m.num_shared_experts:
        width = m.num_shared_experts * m.expert_intermediate_size
        shared = _mlp(t, x, "shared", width, m.num_up > 1, h)
        t.segment = "shared_sum"
        out = f.plus(t, out, shared)
    return _with_residual(t, hidden, out)


def _experts(t: Tape, x: Value, weights: Value, m: MoeFfn, rows: int) -> Value:
    t.segment = "expert_rows"
    t.launch("sort", rows, 8 * rows, 16 * rows, library="torch-flat")
    picked = f.picked(t, x, rows)
    scales = f.picked(t, weights, rows)
    t.launch("elementwise", modules.COUNT_KERNELS * rows, 12 * modules.COUNT_KERNELS * rows,
             8 * modules.COUNT_KERNELS * rows, modules.COUNT_KERNELS)  # fmt: skip
    t.keep(t.value(rows, 1, "int64"), "order")
    picked = f.masked_in_place(t, picked)
    t.segment = "expert_up"
    wide = linear(t, picked, m.num_up * m.expert_intermediate_size)
    t.segment = "expert_activation"
    wide = f.masked(t, biased.with_bias(t, wide, m.num_routed_experts) if m.bias else wide)
    if m.clamp is not None:
        product = biased.gated(t, wide)
    elif m.num_up > 1:
        gate, up = f.split(t, wide, m.expert_intermediate_size, m.expert_intermediate_size)
        product = modules.gated(t, gate, up)
    else:
        product = f.activated(t, wide)
    t.segment = "expert_down"
    results = linear(t, product, x.width)
    t.segment = "expert_results"
    results = biased.with_bias(t, results, m.num_routed_experts) if m.bias else results
    results = f.times_rows(t, f.masked(t, results), scales)
    t.segment = "expert_sum"
    return f.cast(t, f.summed(t, f.picked(t, results, rows), m.top_k), x.dtype)


@cache
def head_block(hidden: int, vocab: int, tokens: int) -> Traced:
    """Final norm, logits, loss."""
    t = Tape()
    x = _norm(t, t.value(tokens * hidden, hidden), "final_norm")
    t.segment = "head"
    logits = linear(t, x, vocab)
    t.segment = "loss"
    return _traced(t, modules.causal_loss(t, logits))
