"""What a kind of attention answers: one file a kind, registered by the `kind` key of the model file.

A new kind is its file here and its section in simulator/scenario/model.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from simulator.registry import Family
from simulator.scenario.model import ModelSpec
from simulator.scenario.section import Section
from simulator.workload.counting import AttentionCore
from simulator.workload.layers.context_memory import hold_exchanged
from simulator.workload.layers.part import Weights
from simulator.workload.op import Op, Work
from simulator.workload.recipe import Recipe
from simulator.workload.saved import ActivationRecipe, BlockBuilder, bf16
from simulator.workload.tensors import BlockMemory, Tensor, tensor_bytes

A = TypeVar("A", bound=Section)


@dataclass(frozen=True, slots=True)
class AttentionKind(Generic[A]):
    """One kind of attention; A is its section of the model file, cut to the heads of the rank.

    core(section): heads and their sizes in the attention core, from which FLOP and operators follow.
    weights(section, hidden): parameters of a layer's attention, its own norms included, the layer's not.
    forward(section, hidden, recipe): operators from the layer's input to the attention output, residual added.
    backward_input, backward_weight: the same of the backward, recompute and operands as the recipe says.
    save_projections(block, section, t, s): notes in the block what the projections keep, up to q, k and v.
    latent(section): numbers of a token from which its keys and values are projected up; 0: there are none.
    """

    core: Callable[[A], AttentionCore]
    weights: Callable[[A, int], Weights]
    forward: Callable[[A, int, Recipe], Iterator[Work]]
    backward_input: Callable[[A, int, Recipe], Iterator[Work]]
    backward_weight: Callable[[A, int, Recipe], Iterator[Op]]
    save_projections: Callable[[BlockBuilder, A, int, int], None]
    latent: Callable[[A], int] = lambda section: 0


ATTENTIONS: Family[AttentionKind[Any]] = Family("kind of attention")


def attention_kind(model: ModelSpec) -> AttentionKind[Any]:
    """The kind of the model's attention. Raises UnknownName where no file registers it."""
    return ATTENTIONS[model.attention.kind]


def attention_core(model: ModelSpec, tp: int = 1) -> AttentionCore:
    """The attention core of one of the model's layers, its heads shared by tp ranks."""
    return attention_kind(model).core(model.attention.cut(tp))


def attention_weights(model: ModelSpec, tp: int = 1) -> Weights:
    """Parameters of one layer's attention on one of tp ranks."""
    return attention_kind(model).weights(model.attention.cut(tp), model.hidden_size)


def attention_operators(model: ModelSpec, r: Recipe) -> tuple[list[Work], list[Work], list[Op]]:
    """Forward, input gradient and weight gradients of one layer's attention on a rank."""
    kind, a, h = attention_kind(model), model.attention.cut(r.tp), model.hidden_size
    return list(kind.forward(a, h, r)), list(kind.backward_input(a, h, r)), list(kind.backward_weight(a, h, r))


def attention_block(model: ModelSpec, r: ActivationRecipe) -> BlockMemory:
    """What norm, projections and attention core of a layer keep."""
    core, h, t, s = attention_core(model, r.tp).run_by(r.attention), model.hidden_size, r.tokens, r.sequence_tokens
    heads, kv_heads = core.heads, core.kv_heads
    q_width, k_width, out = heads * core.head_dim_qk, kv_heads * core.head_dim_qk, heads * core.head_dim_v
    block = BlockBuilder("attention", r)
    block.keep("attn.input", "bf16", s * h)
    block.operand("attn.norm_out", r.gemm_input_tokens * h, recomputed=r.drops_norms)
    attention_kind(model).save_projections(block, model.attention.cut(r.tp), t, s)
    if r.cp > 1:
        hold_exchanged(block, core, attention_kind(model).latent(model.attention) if r.cp_kv == "latent" else 0)
    _save_core(block, t, out, heads)
    if core.padding:
        _save_padding(block, t, core)
    block.gradient("attn.o_grad", t * h)  # gathered for both gradients of the output projection
    block.backward += [
        bf16("attn.out_grad", t * out),
        Tensor("attn.q_grad_accumulator", tensor_bytes("fp32", t * q_width)),
        bf16("attn.qkv_grad", t * (q_width + k_width + out)),
        bf16("attn.residual_grad", 2 * s * h),
    ]
    return block.build()


def _save_padding(block: BlockBuilder, t: int, core: AttentionCore) -> None:
    """What a library that takes one head size keeps more: padded values, and its own padded output beside the cut one."""
    again = "attention" in block.recipe.recompute
    up = again or "mla_up_proj" in block.recipe.recompute
    block.keep("attn.v_padding", "bf16", t * core.kv_heads * core.padding, recomputed=up)
    block.keep("attn.out_padded", "bf16", t * core.heads * core.kernel_head_dim_v, recomputed=again)
    block.backward.append(bf16("attn.out_grad_padded", t * core.heads * core.kernel_head_dim_v))


def _save_core(block: BlockBuilder, t: int, out: int, heads: int) -> None:
    """Output and log-sum-exp; the output serves the core's backward and the output projection's weight gradient."""
    r, again = block.recipe, "attention" in block.recipe.recompute
    block.keep("attn.log_sum_exp", "fp32", t * heads, recomputed=again)
    if again or r.act_dtype == r.attn_out_dtype:
        block.operand("attn.out", t * out)
        saved_dtype = r.act_dtype
    else:
        block.operand("attn.o_input", t * out, recomputed=not r.keeps_casts)
        block.keep("attn.out", r.attn_out_dtype, t * out)
        saved_dtype = r.attn_out_dtype
    if saved_dtype != "bf16":
        block.keep("attn.out_bf16", "bf16", t * out, recomputed=True)
