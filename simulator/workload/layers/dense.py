"""Code d of a layout: a transformer layer whose feed-forward network every token passes whole."""

from __future__ import annotations

from simulator.scenario.model import ModelSpec
from simulator.workload import counting as c
from simulator.workload.layers import ffn
from simulator.workload.layers.attention import attention_operators
from simulator.workload.layers.layer import common_weights, input_reload, layer_saved
from simulator.workload.layers.parallel_block import sharing
from simulator.workload.layers.part import PARTS, Blocks, Params, Part, Shard
from simulator.workload.op import Unit
from simulator.workload.recipe import Recipe
from simulator.workload.saved import ActivationRecipe, BlockBuilder, bf16, recomputed
from simulator.workload.tensors import BlockMemory


def _ffn(model: ModelSpec, tp: int) -> ffn.Ffn:
    """The FFN on one of tp ranks."""
    section = model.dense_ffn
    assert section is not None, "a dense layer needs the model's dense_ffn section"
    return ffn.Ffn.of(section, model.hidden_size, section.intermediate_size // tp)


def params(model: ModelSpec, shard: Shard) -> Params:
    """Attention, FFN and two norms."""
    all_of_it = common_weights(model, shard) + _ffn(model, shard.tp).weights
    return Params(dense=all_of_it.total, gemm=all_of_it.gemm, replicated=all_of_it.replicated)


def units(model: ModelSpec, r: Recipe) -> tuple[Unit, ...]:
    """One unit: attention, then the FFN; nothing is dispatched."""
    h, n, s = model.hidden_size, _ffn(model, r.tp), r.sequence_tokens
    attn_f, attn_b, attn_w = attention_operators(model, r)
    attn_f += [*r.casts.norm("ffn_norm", s, h), *r.casts.normed("ffn_quantise", s, h)]
    inside = r.without("swiglu") if "mlp" in r.recompute else r
    fed = tuple(ffn.forward("ffn", n, r))
    merge = [c.add("ffn_input_grad", s * h, "I"), c.rmsnorm_bwd("ffn_norm_bwd", s, h)]
    blocks: Blocks = {
        "attn_f": tuple(attn_f),
        "mlp_f_local": fed,
        "mlp_b_local": (
            *(c.again(fed) if "mlp" in r.recompute else ()), *ffn.backward_input("ffn", n, inside), *input_reload(h, r)
        ),
        "mlp_w": tuple(ffn.backward_weight("ffn", n, r)),
        "attn_b": (*merge, *attn_b),
        "attn_w": tuple(attn_w),
    }  # fmt: skip
    if model.parallel_block:
        blocks = {name: sharing(name, work) for name, work in blocks.items()}
    if "layer" in r.recompute:
        attn_f, fed = list(blocks["attn_f"]), blocks["mlp_f_local"]
        blocks |= {"attn_r": c.again(attn_f), "mlp_r_local": c.again(fed)}
    return (Unit("layer", "dense", blocks),)


def _ffn_block(model: ModelSpec, r: ActivationRecipe) -> BlockMemory:
    """Norm and FFN."""
    h, t, s, n = model.hidden_size, r.tokens, r.sequence_tokens, _ffn(model, r.tp)
    block = BlockBuilder("dense_ffn", r)
    if not model.parallel_block:  # else attention's own
        block.keep("ffn.input", "bf16", s * h, recomputed="gemms" in r.recompute and r.tp == 1)
        block.operand(
            "ffn.norm_out", r.gemm_input_tokens * h, recomputed="rmsnorm" in r.recompute and r.act_dtype == "bf16"
        )
    block.activation("ffn", t, n.width, n.num_up, h)
    converted = [] if r.swiglu_in_dtype == "bf16" else [bf16("ffn.swiglu_in_bf16", t * n.up)]
    block.forward += [*converted, bf16("ffn.out", s * h)]
    block.backward += [
        *converted, bf16("ffn.swiglu_out_grad", t * n.width), bf16("ffn.swiglu_in_grad", t * n.up),
        bf16("ffn.residual_grad", 2 * s * h),
    ]  # fmt: skip
    return recomputed(block.build(), ("ffn.input", "ffn.norm_out")) if "mlp" in r.recompute else block.build()


def saved(model: ModelSpec, r: ActivationRecipe) -> tuple[BlockMemory, ...]:
    """What attention and FFN keep."""
    return layer_saved(model, _ffn_block(model, r), r)


DENSE = PARTS.add("d", Part(params, units, saved, series="layer", num_attentions=1))
