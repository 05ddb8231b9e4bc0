"""A model cut into pipeline stages: the units (layers, heads) of each stage with their operators and all-to-alls."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from simulator.scenario.model import MlaAttention, ModelSpec, MoeFfn
from simulator.workload import counting as c
from simulator.workload.layers import ffn, gqa, head, mla, moe
from simulator.workload.op import AllToAll, BlockName, Op, StageWorkload, Unit, Workload
from simulator.workload.recipe import Recipe

Blocks = dict[BlockName, tuple[Op, ...]]


def build_workload(model: ModelSpec, layout: Sequence[Sequence[str]], recipe: Recipe) -> Workload:
    """The workload of one micro-batch.

    layout: per stage the codes of its parts in order: E embedding, d dense layer, m MoE layer, mtp, L output head (with a
    second one for each MTP module). The layers are numbered over all stages.
    """
    stages = []
    layer = 0
    for stage, codes in enumerate(layout):
        units: list[Unit] = []
        for code in codes:
            if code == "d":
                units.append(dense_unit(model, layer, recipe))
            elif code == "m":
                units.append(moe_unit(model, layer, recipe))
            layer += code in ("d", "m")
        units += _tail(model, codes, layer, recipe)
        if "E" in codes:
            units = _with_embedding(model, units, recipe)
        dense, expert = _stage_params(model, codes, recipe.ep)
        stages.append(StageWorkload(stage, tuple(units), dense, expert))
    return Workload(tuple(stages), 2 * recipe.tokens * model.hidden_size)


def _tail(model: ModelSpec, codes: Sequence[str], layer: int, recipe: Recipe) -> list[Unit]:
    """Main head, then each MTP module with its own head, in the order in which they run forward."""
    units = [head_unit(model, "head", recipe)] if "L" in codes else []
    for module in range(sum(code == "mtp" for code in codes)):
        units.append(mtp_unit(model, module, layer + module, recipe))
        units.append(head_unit(model, f"mtp_head_{module}", recipe))
    return units


def _attention(model: ModelSpec, r: Recipe) -> tuple[list[Op], list[Op], list[Op]]:
    a, h = model.attention, model.hidden_size
    if isinstance(a, MlaAttention):
        return list(mla.forward(a, h, r)), list(mla.backward_input(a, h, r)), list(mla.backward_weight(a, h, r))
    return list(gqa.forward(a, h, r)), list(gqa.backward_input(a, h, r)), list(gqa.backward_weight(a, h, r))


def dense_unit(model: ModelSpec, layer: int, r: Recipe) -> Unit:
    """A layer with a dense SwiGLU FFN."""
    h, f = model.hidden_size, _dense_width(model)
    attn_f, attn_b, attn_w = _attention(model, r)
    attn_f.append(c.rmsnorm("ffn_norm", r.tokens, h))
    if r.is_fp8:
        attn_f.append(c.quantise("ffn_quantise", r.tokens, h))
    merge = [c.add("ffn_input_grad", r.tokens * h, "I"), c.rmsnorm_bwd("ffn_norm_bwd", r.tokens, h)]
    reload = moe.input_reload(h, r)
    blocks: Blocks = {
        "attn_f": tuple(attn_f),
        "mlp_f_local": tuple(ffn.forward("ffn", h, f, r)),
        "mlp_b_local": (*ffn.backward_input("ffn", h, f, r), *reload),
        "mlp_w": tuple(ffn.backward_weight("ffn", h, f, r)),
        "attn_b": (*merge, *attn_b),
        "attn_w": tuple(attn_w),
    }
    return Unit(f"layer_{layer}", "dense", blocks)


def moe_unit(model: ModelSpec, layer: int, r: Recipe) -> Unit:
    """A layer with routed (and perhaps shared) experts."""
    m, h = _moe(model), model.hidden_size
    shared = m.num_shared_experts * m.expert_intermediate_size
    attn_f, attn_b, attn_w = _attention(model, r)
    blocks: Blocks = {
        "attn_f": (*attn_f, *moe.router_forward(m, h, r)),
        "mlp_f_local": tuple(ffn.forward("shared", h, shared, r)) if shared else (),
        "mlp_f_routed": tuple(moe.forward(m, h, r)),
        "combine_b_cast": (c.quantise("combine_b_quantise", r.tokens, h, "I"),) if r.dispatch_fp8 else (),
        "mlp_b_local": (*(ffn.backward_input("shared", h, shared, r) if shared else ()), *moe.input_reload(h, r)),
        "mlp_b_routed": tuple(moe.backward_input(m, h, r)),
        "mlp_w": (*(ffn.backward_weight("shared", h, shared, r) if shared else ()), *moe.backward_weight(m, h, r)),
        "attn_b": (*moe.router_backward(m, h, r), *attn_b),
        "attn_w": tuple(attn_w),
    }
    return Unit(f"layer_{layer}", "moe", blocks, _all_to_all(h, r))


def _all_to_all(hidden: int, r: Recipe) -> dict[str, AllToAll]:
    if r.ep == 1:
        return {}
    sent = c.fp8_bytes(hidden) if r.dispatch_fp8 else 2 * hidden
    dispatch = AllToAll("dispatch", "F", r.tokens, sent, r.nodes, r.ep, r.nodes_per_token, r.ranks_per_token)
    combine = replace(dispatch, op="combine", bytes_per_token=2 * hidden)
    return {
        "dispatch_f": dispatch,
        "combine_f": combine,
        "combine_b": replace(dispatch, direction="B", cached_layout=True),
        "dispatch_b": replace(combine, direction="B", cached_layout=True),
    }


def mtp_unit(model: ModelSpec, module: int, layer: int, r: Recipe) -> Unit:
    """A multi-token-prediction module: projection of (hidden, next embedding) and one layer of the model's last kind."""
    base = moe_unit(model, layer, r) if model.moe else dense_unit(model, layer, r)
    h, blocks = model.hidden_size, dict(base.blocks)
    blocks["attn_f"] = (*head.mtp_forward(h, r), *blocks["attn_f"])
    blocks["attn_b"] = (*blocks["attn_b"], *head.mtp_backward_input(h, r))
    blocks["attn_w"] = (*blocks["attn_w"], *head.mtp_backward_weight(h, r))
    return replace(base, name=f"mtp_{module}", blocks=blocks)


def head_unit(model: ModelSpec, name: str, r: Recipe) -> Unit:
    """An output head with its loss."""
    h, v = model.hidden_size, model.vocab_size
    blocks: Blocks = {
        "mlp_f_local": tuple(head.head_forward(h, v, r)),
        "mlp_b_local": tuple(head.head_backward_input(h, v, r)),
        "mlp_w": tuple(head.head_backward_weight(h, v, r)),
    }
    return Unit(name, "head", blocks)


def _with_embedding(model: ModelSpec, units: list[Unit], r: Recipe) -> list[Unit]:
    """Look-up before the first unit of the stage, its gradient after that unit's."""
    lookup = tuple(head.embedding_forward(model.hidden_size, r))
    gradient = tuple(head.embedding_backward(model.hidden_size, r))
    if not units:
        return [Unit("embedding", "head", {"mlp_f_local": lookup, "mlp_w": gradient})]
    first, blocks = units[0], dict(units[0].blocks)
    start: BlockName = "attn_f" if "attn_f" in blocks else "mlp_f_local"
    end: BlockName = "attn_w" if "attn_w" in blocks else "mlp_w"
    blocks[start] = (*lookup, *blocks[start])
    blocks[end] = (*blocks[end], *gradient)
    return [replace(first, blocks=blocks), *units[1:]]


def _moe(model: ModelSpec) -> MoeFfn:
    assert model.moe is not None, "a MoE layer needs the model's moe section"
    return model.moe


def _dense_width(model: ModelSpec) -> int:
    assert model.dense_ffn is not None, "a dense layer needs the model's dense_ffn section"
    return model.dense_ffn.intermediate_size


def attention_params(model: ModelSpec) -> int:
    """Weights of one layer's attention."""
    a = model.attention
    if isinstance(a, MlaAttention):
        return mla.num_params(a, model.hidden_size)
    return gqa.num_params(a, model.hidden_size)


def layer_params(model: ModelSpec, code: str) -> tuple[int, int]:
    """(replicated, all routed experts) of one layer or part by its layout code."""
    h = model.hidden_size
    if code == "E":
        return model.vocab_size * h, 0
    if code == "L":
        return h + (0 if model.tied_embeddings else model.vocab_size * h), 0
    norms_and_attention = attention_params(model) + 2 * h
    extra = head.mtp_params(h) if code == "mtp" else 0
    if code == "d" or model.moe is None:
        return norms_and_attention + ffn.num_params(h, _dense_width(model)) + extra, 0
    m = model.moe
    expert = ffn.num_params(h, m.expert_intermediate_size)
    replicated = norms_and_attention + m.num_shared_experts * expert + moe.router_params(m, h) + extra
    return replicated, m.num_routed_experts * expert


def _stage_params(model: ModelSpec, codes: Iterable[str], ep: int) -> tuple[int, int]:
    dense = expert = 0
    for code in codes:
        d, e = layer_params(model, code)
        dense, expert = dense + d, expert + e // ep
    return dense, expert
