"""Code m of a layout: a transformer layer with routed (and perhaps shared) experts, spread over the expert group."""

from __future__ import annotations

from dataclasses import replace
from math import ceil

from simulator.scenario.model import ModelSpec, MoeFfn
from simulator.workload import counting as c
from simulator.workload.layers import experts, ffn, shuffle
from simulator.workload.layers.attention import attention_operators
from simulator.workload.layers.layer import common_weights, input_reload, layer_saved
from simulator.workload.layers.part import PARTS, Blocks, Params, Part, Shard, Weights
from simulator.workload.op import AllToAll, Unit
from simulator.workload.recipe import Recipe
from simulator.workload.saved import ActivationRecipe, BlockBuilder, bf16, fullest, recomputed
from simulator.workload.tensors import BlockMemory, Tensor, tensor_bytes

INSIDE_EXPERTS = ("expert.swiglu_in", "expert.clamped", "expert.silu_out", "expert.swiglu_out")
"""What routed experts keep between the rows that came and their results."""


def _moe(model: ModelSpec) -> MoeFfn:
    assert model.moe is not None, "a MoE layer needs the model's moe section"
    return model.moe


def _shared(m: MoeFfn, hidden: int, tp: int) -> ffn.Ffn:
    """The shared experts together on one of tp ranks."""
    return ffn.Ffn.of(m, hidden, m.num_shared_experts * m.expert_intermediate_size // tp)


def params(model: ModelSpec, shard: Shard) -> Params:
    """Attention, two norms, router, shared and routed experts."""
    m, h, common = _moe(model), model.hidden_size, common_weights(model, shard)
    expert, router = experts.of_rank(m, h, shard.etp).weights, experts.router_weights(m, h)
    shared = _shared(m, h, shard.tp).weights if m.num_shared_experts else Weights(0)
    passed = common + router + shared
    return Params(
        dense=passed.total, gemm=passed.gemm + m.top_k * expert.gemm,
        expert=m.num_routed_experts * expert.total, active_expert=m.top_k * expert.total, replicated=passed.replicated,
    )  # fmt: skip


def units(model: ModelSpec, r: Recipe) -> tuple[Unit, ...]:
    """One unit: attention and router, the experts that need no dispatch, those that do."""
    m, h = _moe(model), model.hidden_size
    shared = _shared(m, h, r.tp) if m.num_shared_experts else None
    attn_f, attn_b, attn_w = attention_operators(model, r)
    s = r.sequence_tokens
    attn_f.append(c.rmsnorm("ffn_norm", s, h))
    router, routed = tuple(experts.router_forward(m, h, r)), tuple(experts.forward(m, h, r))
    inside = r.without("swiglu") if "moe" in r.recompute else r
    of_shared = inside.without("swiglu") if "shared_expert" in r.recompute else inside
    of_experts = inside.without("swiglu") if "experts" in r.recompute else inside
    cast = r.casts.shared_input("shared_quantise", s, h, is_sent=r.dispatch_fp8)
    local = (*cast, *ffn.forward("shared", shared, r)) if shared else ()
    blocks: Blocks = {
        "attn_f": (*attn_f, *router),
        "mlp_f_local": local,
        "mlp_f_routed": routed,
        "combine_b_cast": tuple(r.casts.payload("combine_b_quantise", s, h, "I")) if r.dispatch_fp8 else (),
        "mlp_b_local": (
            *(c.again(local) if "shared_expert" in r.recompute and "moe" not in r.recompute else ()),
            *(ffn.backward_input("shared", shared, of_shared) if shared else ()),
            *input_reload(h, r),
        ),
        "mlp_b_routed": (
            *(c.again(routed) if "experts" in r.recompute and "moe" not in r.recompute else ()),
            *experts.backward_input(m, h, of_experts),
        ),
        "mlp_w": (*(ffn.backward_weight("shared", shared, r) if shared else ()), *experts.backward_weight(m, h, r)),
        "attn_b": (*experts.router_backward(m, h, r), *attn_b),
        "attn_w": tuple(attn_w),
    }
    if r.shared_beside and shared and r.ep > 1:
        blocks |= {
            "mlp_f_local": (),
            "mlp_b_local": tuple(input_reload(h, r)),
            "mlp_w": tuple(experts.backward_weight(m, h, r)),
            "shared_f_up": (*cast, *ffn.forward_up("shared", shared, r)),
            "shared_f_down": tuple(ffn.forward_down("shared", shared, r)),
            "shared_b_down": tuple(ffn.backward_down("shared", shared, of_shared)),
            "shared_b_up": tuple(ffn.backward_up("shared", shared, of_shared)),
            "shared_w_down": tuple(ffn.weight_down("shared", shared, r)),
            "shared_w_up": tuple(ffn.weight_up("shared", shared, r)),
        }
    if r.recompute & {"layer", "moe"}:
        first = (*attn_f, *router) if "layer" in r.recompute else router
        blocks |= {"attn_r": c.again(first), "mlp_r_local": c.again(local), "mlp_r_routed": c.again(routed)}
    return (Unit("layer", "moe", blocks, _all_to_all(m, h, r)),)


def _all_to_all(m: MoeFfn, hidden: int, r: Recipe) -> dict[str, AllToAll]:
    if r.ep == 1:
        return {}
    sent, sends_rows, gathers = r.sent_bytes(hidden), r.sends == "rows", r.sends == "everything"
    tokens = ceil(r.sequence_tokens * r.capacity.limit) if r.capacity.is_padded else r.sequence_tokens
    sent_tokens = r.sequence_tokens if gathers else tokens
    dispatch = AllToAll(
        "dispatch", "F", sent_tokens, sent, r.nodes, r.ep * (r.etp if gathers else 1),
        r.nodes_per_token, r.ranks_per_token, remote_per_token=r.remote_per_token, fullest_node=r.fullest_node,
        dispatcher=r.dispatcher, rows_per_token=shuffle.sent_rows(m, r) / sent_tokens, num_experts=m.num_routed_experts,
        is_scaled=r.dispatch_fp8, sends_weights=sends_rows, host_syncs=r.host_syncs,
    )  # fmt: skip
    combine = replace(
        dispatch, op="combine", bytes_per_token=r.returned_bytes(hidden), is_scaled=r.combine_fp8, sends_weights=False,
        host_syncs=0,
    )  # fmt: skip
    repeated = {"dispatch_r": dispatch, "combine_r": combine} if r.recompute & {"layer", "moe"} else {}
    return repeated | {
        "dispatch_f": dispatch,
        "combine_f": combine,
        "combine_b": replace(dispatch, direction="B", cached_layout=True, sends_weights=False, host_syncs=0),
        "dispatch_b": replace(combine, direction="B", cached_layout=True, sends_weights=sends_rows),
    }


def _ffn_block(model: ModelSpec, r: ActivationRecipe) -> BlockMemory:
    """Norm, router, routed and shared experts."""
    m, h, t, s = _moe(model), model.hidden_size, r.tokens, r.sequence_tokens
    n, norms, is_fp8 = experts.of_rank(m, h, r.etp), "rmsnorm" in r.recompute, r.act_dtype != "bf16"
    block = BlockBuilder("moe_ffn", r)
    block.keep("ffn.input", "bf16", s * h)
    if is_fp8 or not m.num_shared_experts:
        # The router's weight gradient is taken in I, so a recomputed BF16 input of it does not wait for W.
        block.keep("router.input", "bf16", s * h, recomputed=norms)
    if m.num_shared_experts:
        block.operand("ffn.norm_out", s * h, recomputed=norms and not is_fp8)
    block.keep("router.scores", "fp32", s * m.num_routed_experts)
    block.saved += [Tensor("router.top_k", 12 * s * m.top_k)]  # int64 index and FP32 weight
    rows, peak = r.expert_rows(m, r.expert_rows_frac), r.expert_rows(m, r.expert_rows_peak_frac)
    block.saved += [Tensor("expert.row_map", 8 * rows), Tensor("expert.row_weight", 4 * rows)]
    block.operand("expert.input", rows * h)
    block.activation("expert", rows, n.width, n.num_up, h)
    if m.clamp is not None and not r.fuses_experts:
        # What was limited, beside what goes into the limits.
        block.keep("expert.clamped", "bf16", rows * n.up, recomputed="swiglu" in r.recompute)
    if r.is_eager:
        block.keep("expert.out", "bf16", rows * h)  # the router's weights are applied behind the experts
    if m.num_shared_experts:
        block.activation("shared", t, _shared(m, h, r.tp).width, m.num_up, h)
    sent = s * m.top_k
    block.forward += _routed_forward(r, peak, sent, n)
    block.backward += [*_routed_backward(r, peak, sent, n), bf16("ffn.residual_grad", 2 * s * h)]
    built = block.build()
    if "moe" in r.recompute:
        return recomputed(built, ("ffn.input", "router.input", "ffn.norm_out"))
    again = [x.name for x in built.saved if "shared_expert" in r.recompute and x.name.startswith("shared.")]
    again += INSIDE_EXPERTS if "experts" in r.recompute else ()
    return recomputed(built, tuple(x.name for x in built.saved if x.name not in again)) if again else built


def _routed_forward(r: ActivationRecipe, rows: int, sent: int, n: ffn.Ffn) -> list[Tensor]:
    """Before the up projection; between the projections; results in expert order and in the order sent. sent: rows of the
    rank's own tokens.
    """
    converted = [] if r.swiglu_in_dtype == "bf16" else [bf16("expert.swiglu_in_bf16", rows * n.up)]
    h = n.hidden
    return fullest((
        [
            Tensor("expert.received", tensor_bytes(r.dispatch_dtype, rows * h)),
            *_other_end(r, "expert.sent", max(rows, sent), h),
        ],
        converted,
        [
            bf16("expert.out", rows * h), *_sent_back(r, "expert.sent_back", rows * h),
            *_other_end(r, "expert.came_back", max(0, sent - rows), h),
        ],
    ))  # fmt: skip


def _other_end(r: ActivationRecipe, name: str, rows: int, hidden: int) -> list[Tensor]:
    """What is there beside the rows of the rank's experts while these arrive or leave: of an all-gather the tokens of the whole
    group; of an all-to-all the rows of its own tokens, or those of its experts sorted anew (rows: the more of them).
    """
    if r.sends == "distinct":
        return []
    return [bf16(name, (rows if r.sends == "rows" else r.sequence_tokens * r.ep * r.etp) * hidden)]


def _routed_backward(r: ActivationRecipe, rows: int, sent: int, n: ffn.Ffn) -> list[Tensor]:
    """The same three instants of the backward."""
    converted = [] if r.swiglu_in_dtype == "bf16" else [bf16("expert.swiglu_in_bf16", rows * n.up)]
    h = n.hidden
    return fullest((
        [
            Tensor("expert.received_grad", tensor_bytes(r.dispatch_dtype, rows * h)),
            *_other_end(r, "expert.sent_grad", max(rows, sent), h),
        ],
        [*converted, bf16("expert.swiglu_out_grad", rows * n.width), bf16("expert.swiglu_in_grad", rows * n.up)],
        [
            bf16("expert.input_grad", rows * h), *_sent_back(r, "expert.sent_back_grad", rows * h),
            *_other_end(r, "expert.came_back_grad", max(0, sent - rows), h),
        ],
    ))  # fmt: skip


def _sent_back(r: ActivationRecipe, name: str, elements: int) -> list[Tensor]:
    """What a combine sends, and in 8 bits its cast."""
    cast = [] if r.combine_dtype == "bf16" else [Tensor(f"{name}_cast", tensor_bytes(r.combine_dtype, elements))]
    return [bf16(name, elements), *cast]


def saved(model: ModelSpec, r: ActivationRecipe) -> tuple[BlockMemory, ...]:
    """What attention and experts keep."""
    return layer_saved(model, _ffn_block(model, r), r)


MOE = PARTS.add("m", Part(params, units, saved, series="layer", num_attentions=1))
