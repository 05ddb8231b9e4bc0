"""Multi-head latent attention (DeepSeek-V2/V3): low-rank queries and keys/values, a decoupled rope key.

Forward: norm, q and kv down-projections, norms of the latents, up-projections, rope, attention core, output projection.
Under tensor parallelism the up-projections share the heads; every rank has the whole down-projections and does those of its
own tokens, and the latents are gathered behind them (Megatron-LM core/transformer/multi_latent_attention.py, whose
down-projections are "duplicated").
The order and the auxiliary kernels (casts, slices, broadcasts) are those of DeepSeek's published training trace
(deepseek-ai/profile-data, train.json).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from simulator.scenario.model import MlaAttention
from simulator.workload import counting as c
from simulator.workload.counting import AttentionCore
from simulator.workload.layers import tensor_parallel as tp
from simulator.workload.layers.attention import ATTENTIONS, AttentionKind
from simulator.workload.layers.context_memory import projects_again
from simulator.workload.layers.context_parallel import gather_latent, run_core, scatter_latent_grad
from simulator.workload.layers.linear import column_dgrad, dgrad, row_dgrad
from simulator.workload.layers.part import Weights
from simulator.workload.op import Op, Pass, Work
from simulator.workload.recipe import Recipe
from simulator.workload.saved import BlockBuilder
from simulator.workload.tensors import FORMAT_BITS


def core(a: MlaAttention) -> AttentionCore:
    """Every head has its own key and value, projected up from the latent; a key's rope part is the same for all."""
    return AttentionCore(a.num_heads, a.num_heads, a.qk_nope_head_dim + a.qk_rope_head_dim, a.v_head_dim)


def _run_core(a: MlaAttention, r: Recipe, phase: Pass) -> Iterator[Work]:
    """The core, forward or backward. A library that takes one head size gets values and output gradients padded to the
    keys' size, and its output is cut (torch.nn.functional.pad and a slice, as DeepSeek's and Megatron-LM's modules do).
    """
    run = core(a).run_by(r.attention)
    narrow, wide = r.tokens * a.num_heads * run.head_dim_v, r.tokens * a.num_heads * run.kernel_head_dim_v
    if run.padding:
        yield c.copy("v_pad" if phase == "F" else "out_grad_pad", narrow, wide, phase)
    if run.padding and phase == "I" and "mla_up_proj" in r.recompute and "attention" not in r.recompute:
        yield c.copy("v_pad_recompute", narrow, wide, phase)
    yield from run_core(run, r, phase, latent(a) if _sends_latent(r) else 0)
    if run.padding and phase == "F":
        yield c.copy("attn_out_cut", narrow, narrow, phase)


def _sends_latent(r: Recipe) -> bool:
    """Whether the ranks that share sequences send each other latents, and project them up where they arrive."""
    return r.cp > 1 and r.cp_kv == "latent"


def latent(a: MlaAttention) -> int:
    """Numbers of a token from which its keys and values follow: the latent and the rope key."""
    return a.kv_lora_rank + a.qk_rope_head_dim


def _kv_up_share(a: MlaAttention, r: Recipe) -> tuple[int, int]:
    """(tokens, heads) whose keys and values the rank projects up."""
    if not _sends_latent(r):
        return r.tokens, a.num_heads
    return r.tokens * r.cp, a.num_heads // r.cp if r.cp_comm == "a2a" else a.num_heads


def _own_work(op: Op, a: MlaAttention, r: Recipe) -> Op:
    """A product of the keys' and values' projection: what each rank of a group does again is the model's work once."""
    if not _sends_latent(r):
        return op
    tokens, heads = _kv_up_share(a, r)
    return replace(op, model_flop=op.model_flop * r.tokens * a.num_heads / (tokens * heads))


def _own_products(work: Iterable[Work], a: MlaAttention, r: Recipe) -> Iterator[Work]:
    return (_own_work(each, a, r) if isinstance(each, Op) else each for each in work)


def _q_in(a: MlaAttention) -> int:
    """Output columns of the first query projection: the latent, or all query heads where there is none (rank 0)."""
    return a.q_lora_rank or a.num_heads * core(a).head_dim_qk


def _up_projections(a: MlaAttention, hidden: int, r: Recipe, *, recompute: bool) -> Iterator[Work]:
    """From the normalised latents to q, k, v with rope applied; in the backward the same again, with the queries' direct
    projection where they have no latent (Megatron-LM core/transformer/multi_latent_attention.py, linear_q_proj).

    Gathered are the latents, that of keys and values with the rope key.
    """
    t, suffix = r.tokens, "_recompute" if recompute else ""
    phase: Pass = "I" if recompute else "F"
    qk, heads = core(a).head_dim_qk, a.num_heads
    if recompute and not a.q_lora_rank:
        yield from tp.gather_input("q_down", hidden, r, phase=phase)
        yield c.fprop("q_down_recompute", r.gemm_dtype, t, heads * qk, hidden, recompute=True, phase=phase)
    for name, rank, gathered in (("q", a.q_lora_rank, a.q_lora_rank), ("kv", a.kv_lora_rank, latent(a))):
        if rank == 0:
            continue
        if recompute:
            yield from r.casts.operand(f"{name}_up_quantise{suffix}", r.sequence_tokens, rank, phase)
        else:
            yield from r.casts.normed(f"{name}_up_quantise", r.sequence_tokens, rank)
        yield from tp.gather_input(f"{name}_up", gathered, r, phase=phase)
        if name == "q":
            yield c.fprop(f"q_up{suffix}", r.gemm_dtype, t, heads * qk, rank, recompute=recompute, phase=phase)
        else:
            yield from _kv_up(a, r, suffix, phase, recompute=recompute)
    yield c.rope(f"k_rope{suffix}", t * a.qk_rope_head_dim, phase)
    yield from _assembled_keys(a, r, suffix, phase)
    yield c.rope(f"q_rope{suffix}", t * heads * a.qk_rope_head_dim, phase)


def _kv_up(a: MlaAttention, r: Recipe, suffix: str, phase: Pass, *, recompute: bool) -> Iterator[Work]:
    """Keys without their rope part, and values, of the tokens and heads that the rank projects up."""
    tokens, heads = _kv_up_share(a, r)
    width = heads * (a.qk_nope_head_dim + a.v_head_dim)
    if _sends_latent(r):
        yield from gather_latent(f"kv_latent{suffix}", latent(a), r, phase)
    product = c.fprop(f"kv_up{suffix}", r.gemm_dtype, tokens, width, a.kv_lora_rank, recompute=recompute, phase=phase)
    yield _own_work(product, a, r)


def _assembled_keys(a: MlaAttention, r: Recipe, suffix: str, phase: Pass) -> Iterator[Op]:
    """Both parts of the keys beside one another, the rope part for every head."""
    tokens, heads = _kv_up_share(a, r)
    nope, rope = tokens * heads * a.qk_nope_head_dim, tokens * heads * a.qk_rope_head_dim
    yield c.copy(f"k_assemble{suffix}", nope, nope, phase)
    yield c.copy(f"k_rope_broadcast{suffix}", tokens * a.qk_rope_head_dim, rope, phase)


def _kv_again(a: MlaAttention, r: Recipe) -> Iterator[Work]:
    """In the backward of ranks that send latents: all tokens' latents, of which no rank keeps the others', and where other
    ranks' keys and values were needed, these.
    """
    if not _sends_latent(r) or "mla_up_proj" in r.recompute:
        return
    if r.cp_comm == "a2a":
        yield from gather_latent("kv_latent_again", latent(a), r, "I")
    else:
        yield from _kv_up(a, r, "_again", "I", recompute=True)
        yield from _assembled_keys(a, r, "_again", "I")


def forward(a: MlaAttention, hidden: int, r: Recipe) -> Iterator[Work]:
    """Operators from the layer's input to the attention output, residual added."""
    t, s, out = r.tokens, r.sequence_tokens, a.num_heads * a.v_head_dim
    kv_down = a.kv_lora_rank + a.qk_rope_head_dim
    yield c.rmsnorm("attn_norm", s, hidden)
    yield from r.casts.operand("q_down_quantise", s, hidden)
    if not a.q_lora_rank:
        yield from tp.gather_input("q_down", hidden, r)
    yield c.fprop("q_down", r.gemm_dtype, s if a.q_lora_rank else t, _q_in(a), hidden)
    yield from r.casts.operand("kv_down_quantise", s, hidden)
    yield c.fprop("kv_down", r.gemm_dtype, s, kv_down, hidden)
    if a.q_lora_rank:
        yield from r.casts.norm("q_norm", s, a.q_lora_rank)
    yield c.copy("kv_split", s * kv_down, s * kv_down, kernels=4)
    yield from r.casts.norm("kv_norm", s, a.kv_lora_rank)
    yield from _up_projections(a, hidden, r, recompute=False)
    yield from _run_core(a, r, "F")
    if r.save_attn_out_e5m6:
        yield c.moved("attn_out_save", "quantise_e5m6", "F", 2 * t * out, t * out * FORMAT_BITS["e5m6"] // 8)
    yield from r.casts.operand("o_quantise", t, out)
    yield c.fprop("o", r.gemm_dtype, t, hidden, out)
    yield from tp.reduce_output("o", hidden, r)
    yield c.add("attn_residual", s * hidden, inputs=1)


def backward_input(a: MlaAttention, hidden: int, r: Recipe) -> Iterator[Work]:
    """Input gradient, with the recompute that it needs; in FP8 also the transposed operands of the weight gradients."""
    t, s, heads, out = r.tokens, r.sequence_tokens, a.num_heads, a.num_heads * a.v_head_dim
    q_width = heads * core(a).head_dim_qk
    kv_tokens, kv_heads = _kv_up_share(a, r)
    kv_width = kv_heads * (a.qk_nope_head_dim + a.v_head_dim)
    kv_down = a.kv_lora_rank + a.qk_rope_head_dim
    yield c.add("attn_residual_scale_bwd", s * hidden, "I", inputs=1)
    if r.save_attn_out_e5m6:
        yield c.moved("attn_out_load", "dequantise_e5m6", "I", t * out * FORMAT_BITS["e5m6"] // 8, 2 * t * out)
    yield from row_dgrad(r, "o", hidden, out, transposes=(("o_input", out), ("o_grad", hidden)))
    if "mla_up_proj" in r.recompute:
        if "rmsnorm" in r.recompute:
            if a.q_lora_rank:
                yield c.rmsnorm("q_norm_recompute", s, a.q_lora_rank, "I")
            yield c.copy("kv_split_recompute", s * a.kv_lora_rank, s * a.kv_lora_rank, "I")
            yield c.rmsnorm("kv_norm_recompute", s, a.kv_lora_rank, "I")
        yield from _up_projections(a, hidden, r, recompute=True)
    yield from _kv_again(a, r)
    if "attention" in r.recompute:
        yield from c.again(_run_core(a, r, "F"))
    yield from _run_core(a, r, "I")
    yield c.rope("q_rope_bwd", t * heads * a.qk_rope_head_dim, "I")
    if a.q_lora_rank:
        yield from column_dgrad(r, "q_up", q_width, a.q_lora_rank)
    rope = a.qk_rope_head_dim
    yield c.copy("k_rope_grad_sum", kv_tokens * kv_heads * rope, kv_tokens * rope, "I")
    yield c.rope("k_rope_bwd", t * a.qk_rope_head_dim, "I")
    nope, value = (kv_tokens * kv_heads * width for width in (a.qk_nope_head_dim, a.v_head_dim))
    yield c.copy("k_grad_assemble", nope, nope, "I")
    yield c.copy("v_grad_assemble", value, value, "I")
    yield from tp.gather_input_again("kv_up", a.kv_lora_rank, r)
    yield from _own_products(dgrad(r, "kv_up", kv_width, a.kv_lora_rank, tokens=kv_tokens), a, r)
    if _sends_latent(r):
        yield from scatter_latent_grad("kv_latent_grad", latent(a), r)
    yield from tp.reduce_input_grad("kv_up", kv_down, r)
    yield from r.casts.after_dgrad((("kv_up_grad", kv_width), ("kv_up_input", a.kv_lora_rank)), kv_tokens)
    if a.q_lora_rank:
        yield from r.casts.after_dgrad((("q_up_grad", q_width), ("q_up_input", a.q_lora_rank)), t)
    yield c.rmsnorm_bwd("kv_norm_bwd", s, a.kv_lora_rank)
    if a.q_lora_rank:
        yield c.rmsnorm_bwd("q_norm_bwd", s, a.q_lora_rank)
    yield c.copy("kv_grad_join", s * kv_down, s * kv_down, "I", kernels=5)
    if "rmsnorm" in r.recompute:
        yield c.rmsnorm("attn_norm_recompute", s, hidden, "I")
    operands = (("kv_down_input", hidden), ("kv_down_grad", kv_down))
    yield from dgrad(r, "kv_down", kv_down, hidden, transposes=operands, tokens=s)
    operands = (("q_down_input", hidden), ("q_down_grad", _q_in(a)))
    if a.q_lora_rank:
        yield from dgrad(r, "q_down", _q_in(a), hidden, transposes=operands, tokens=s)
    else:
        yield from column_dgrad(r, "q_down", _q_in(a), hidden, transposes=operands)
    yield c.add("attn_input_grad", s * hidden, "I")
    yield c.rmsnorm_bwd("attn_norm_bwd", s, hidden)


def backward_weight(a: MlaAttention, hidden: int, r: Recipe) -> Iterator[Op]:
    """The five weight gradients."""
    t, s, qk = r.tokens, r.sequence_tokens, core(a).head_dim_qk
    yield c.wgrad("o_wgrad", r.gemm_dtype, t, hidden, a.num_heads * a.v_head_dim)
    tokens, heads = _kv_up_share(a, r)
    kv_width = heads * (a.qk_nope_head_dim + a.v_head_dim)
    yield _own_work(c.wgrad("kv_up_wgrad", r.gemm_dtype, tokens, kv_width, a.kv_lora_rank), a, r)
    if a.q_lora_rank:
        yield c.wgrad("q_up_wgrad", r.gemm_dtype, t, a.num_heads * qk, a.q_lora_rank)
    yield c.wgrad("kv_down_wgrad", r.gemm_dtype, s, a.kv_lora_rank + a.qk_rope_head_dim, hidden)
    yield c.wgrad("q_down_wgrad", r.gemm_dtype, s if a.q_lora_rank else t, _q_in(a), hidden)


def weights(a: MlaAttention, hidden: int) -> Weights:
    """Low-rank queries (direct ones where the rank is 0) and keys/values (arXiv:2405.04434, 2.1), the latents' norms."""
    q_up = a.q_lora_rank * a.num_heads * core(a).head_dim_qk
    kv_down = hidden * (a.kv_lora_rank + a.qk_rope_head_dim)
    kv_up = a.kv_lora_rank * a.num_heads * (a.qk_nope_head_dim + a.v_head_dim)
    output = a.num_heads * a.v_head_dim * hidden
    return Weights(
        hidden * _q_in(a) + q_up + kv_down + kv_up + output, a.q_lora_rank + a.kv_lora_rank,
        replicated_gemm=kv_down + hidden * a.q_lora_rank,
    )  # fmt: skip


def save_projections(block: BlockBuilder, a: MlaAttention, t: int, s: int) -> None:
    """Latents and what is projected up from them."""
    r, heads, qk = block.recipe, a.num_heads, core(a).head_dim_qk
    norms, up = r.drops_norms, "mla_up_proj" in r.recompute
    for name, rank in (("attn.q_latent", a.q_lora_rank), ("attn.kv_latent", a.kv_lora_rank)):
        if rank:
            block.keep(name, "bf16", s * rank)
            block.operand(f"{name}_norm", s * rank, recomputed=norms)
    block.keep("attn.k_rope", "bf16", s * a.qk_rope_head_dim)
    for name, width in (("attn.q", qk), ("attn.k", qk), ("attn.v", a.v_head_dim)):
        block.keep(name, "bf16", t * heads * width, recomputed=up or (name != "attn.q" and projects_again(r)))
    # Without a latent the queries' only projection is tensor-parallel: all tokens, the rank's heads.
    queries = s * a.q_lora_rank or t * heads * qk
    block.gradient("attn.down_grad", queries + s * (a.kv_lora_rank + a.qk_rope_head_dim))
    if a.q_lora_rank:
        block.gradient("attn.q_up_grad", t * heads * qk)
    block.gradient("attn.kv_up_grad", t * heads * (a.qk_nope_head_dim + a.v_head_dim))


ATTENTIONS.add("mla", AttentionKind(core, weights, forward, backward_input, backward_weight, save_projections, latent))
