"""The torch model of hwprofiles/calibration: which functions of torch its modules call, forward and backward.

Products write BF16 weight gradients, which autograd casts to FP32 and adds up over micro-batches; FP8 ones write FP32. Norms,
attention cores, grouped products, the embedding and the optimizer are kernels of torch; rope, activations, router, permutation,
balance and loss are chains of functions, most of them in FP32 (model/*.py there). One rank alone: no parallelism.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from hwprofiles.kernels.shape import FEW, FEW_ROWS
from simulator.scenario.model import GqaAttention, MlaAttention, ModelSpec
from simulator.workload.modules import moesim_own
from simulator.workload.modules.chains import (
    BF16,
    FP32,
    OWN,
    TORCH,
    added,
    chain,
    counts,
    narrowed,
    small,
    smalls,
    strided,
    summed,
    widened,
)
from simulator.workload.modules.moesim_fp8 import Linears
from simulator.workload.modules.place import Place
from simulator.workload.op import Op, Pass, Unit, Work
from simulator.workload.recipe import Recipe

AGAIN: Final = "_recompute"
SWIGLU: Final = (30, 4)
"""Bytes of a number of the activation's output, and launches: conversion of the gate (6), silu (8), times up (10), conversion
(6)."""
WEIGHTED: Final = (38, 5)
"""The same times the rows' weights (8)."""
SWIGLU_BWD: Final = (96, 10)
"""Conversion (6), sigmoid (8), value (12), slope (12 and 16), times up (10), times gradient (10), into the gate's half (6),
value times gradient (10), into the other half (6)."""
WEIGHTED_BWD: Final = (144, 16)
"""The product again (24), times gradient (10), summed over a row (4), gradient times weight (6), then as above with an FP32
gradient (100)."""
ROPE: Final = (20, 12, 4)
"""Bytes of a turned number: conversion (6), product of complex numbers (8), conversion (6); of a position's turned number, the
table's; launches."""
ROPE_BWD: Final = (20, 16, 5)
"""The table's sine is negated first."""
LOSS, LOSS_BWD = 10, 32
"""Bytes of a logit: conversion and log-sum-exp; difference, exponential, one subtracted, scaled, conversion."""
LOSS_ROWS: Final = 1024
"""Tokens of a piece of the loss."""
ROUTER: Final = 64
"""Bytes of a token's score of an expert: as the simulator counts any router of torch functions."""


def with_torch_modules(unit: Unit, model: ModelSpec, recipe: Recipe) -> Unit:
    """The unit with this model's kernels between its products."""
    names = {op.name for op in unit.ops()}
    is_again = unit.name.startswith("mtp")
    share = 1.0 if is_again and unit.kind == "head" else recipe.accumulated
    place = Place(model, recipe, share, "shared_up" in names, "router" in names)
    linears = Linears(model, recipe, place.share)
    blocks = {
        name: tuple(each for work in block for each in _of(work, place, linears, is_again))
        for name, block in unit.blocks.items()
    }
    return replace(unit, blocks=blocks)


def _of(work: Work, place: Place, linears: Linears, is_mtp: bool) -> Iterator[Op]:
    assert isinstance(work, Op), "modules of one rank exchange nothing"
    stem = work.name.removesuffix(AGAIN)
    made: Iterator[Op]
    if work.shape.bound == "gemm":
        made = linears.of(work, stem)
    elif work.shape.bound == "attention":
        made = iter((work,))
    elif stem in ("embedding", "embedding_wgrad"):
        made = _embedding(work, place, is_mtp)
    else:
        made = _CHAINS.get(stem, _nothing)(work, place)
    for op in made:
        again = work.name.endswith(AGAIN) and not op.name.endswith(AGAIN)
        yield replace(op, name=f"{op.name}{AGAIN}" if again else op.name, phase="I" if again else op.phase)


def _nothing(op: Op, place: Place) -> Iterator[Op]:
    """What other software does there: this one has a view, or does it elsewhere."""
    yield from ()


def _norm(op: Op, place: Place) -> Iterator[Op]:
    """One kernel; a latent that stands beside others is copied first, and so are heads."""
    if _is_part(op, place):
        yield strided(f"{op.name}_input", _numbers(op), op.phase)
    yield replace(op, shape=replace(op.shape, library=f"{TORCH}-heads" if _is_of_heads(op, place) else TORCH))


def _norm_bwd(op: Op, place: Place) -> Iterator[Op]:
    """Of the input, then of the weight, by a kernel each."""
    if _is_part(op, place):
        yield strided(f"{op.name}_input", _numbers(op), "I")
    numbers, kind = _numbers(op), f"{TORCH}-heads" if _is_of_heads(op, place) else TORCH
    yield chain(
        op.name, "rmsnorm_bwd", "I", 3 * BF16 * numbers, elements=numbers, width=op.shape.width, library=f"{kind}-input"
    )
    weight = op.name.removesuffix("_bwd")
    yield chain(
        f"{weight}_wgrad", "rmsnorm_bwd", "W", 2 * BF16 * numbers, kernels=2, elements=numbers, width=op.shape.width,
        library=f"{kind}-weight", variant=FEW if kind != TORCH and op.shape.m <= FEW_ROWS else "",
    )  # fmt: skip
    yield small(f"{weight}_grad_cast", "W", (BF16 + FP32) * place.model.hidden_size, 1)


def _is_of_heads(op: Op, place: Place) -> bool:
    stem = op.name.removesuffix("_bwd").removesuffix(AGAIN)
    return stem in ("q_norm", "k_norm") and isinstance(place.model.attention, GqaAttention)


def _is_part(op: Op, place: Place) -> bool:
    stem = op.name.removesuffix("_bwd").removesuffix(AGAIN)
    is_latent = isinstance(place.model.attention, MlaAttention)
    return stem == "kv_norm" if is_latent else stem in ("q_norm", "k_norm")


def _numbers(op: Op) -> int:
    """Of the normed tensor: read and written in BF16, twice read backward."""
    return op.shape.bytes // (6 if op.shape.op == "rmsnorm_bwd" else 4)


def _rope(op: Op, place: Place) -> Iterator[Op]:
    """Turned numbers; of a head that turns in part, the rest is copied, and what turns is no row of its own."""
    attention, is_back = place.model.attention, op.name.endswith("_bwd")
    phase: Pass = "I" if is_back else op.phase
    each, table, launches = ROPE_BWD if is_back else ROPE
    if isinstance(attention, MlaAttention):
        dim, still = attention.qk_rope_head_dim, attention.qk_nope_head_dim
        heads = attention.num_heads if op.name.startswith("q") else 1
        if heads > 1:
            yield strided(f"{op.name}_still", place.tokens * heads * still, phase)
    else:
        assert isinstance(attention, GqaAttention)
        dim = attention.head_dim
        heads = attention.num_heads if op.name.startswith("q") else attention.num_kv_heads
    size = place.tokens * dim * (each * heads + table)
    yield chain(op.name, "rope", phase, size, kernels=launches, library=OWN, variant="bwd" if is_back else "")
    if op.name == "k_rope" and isinstance(attention, GqaAttention) and not attention.qk_norm:
        yield strided("v_contiguous", place.tokens * attention.num_kv_heads * attention.head_dim, op.phase)
    if op.name == "k_rope_bwd" and isinstance(attention, GqaAttention):
        width = (attention.num_heads + 2 * attention.num_kv_heads) * attention.head_dim
        yield _joined("qkv_grad", place.tokens * width, "I")


def _joined(name: str, elements: int, phase: Pass, library: str = TORCH) -> Op:
    return chain(name, "cat", phase, 2 * BF16 * elements, elements=elements, library=library)


def _keys(op: Op, place: Place) -> Iterator[Op]:
    """Of latent attention: keys joined of their own and the shared part; values copied out."""
    a = place.model.attention
    assert isinstance(a, MlaAttention)
    wide = place.tokens * a.num_heads
    yield _joined("k_join", wide * (a.qk_nope_head_dim + a.qk_rope_head_dim), op.phase, f"{TORCH}-heads")
    yield strided("v_contiguous", wide * a.v_head_dim, op.phase)


def _keys_bwd(op: Op, place: Place) -> Iterator[Op]:
    """Gradients of keys' own part and values joined."""
    a = place.model.attention
    assert isinstance(a, MlaAttention)
    yield _joined("kv_up_grad", place.tokens * a.num_heads * (a.qk_nope_head_dim + a.v_head_dim), "I", f"{TORCH}-heads")


def _shared_key_bwd(op: Op, place: Place) -> Iterator[Op]:
    """The shared part's gradient summed over the heads."""
    a = place.model.attention
    assert isinstance(a, MlaAttention)
    numbers = place.tokens * a.qk_rope_head_dim
    yield chain(op.name, "reduce", "I", BF16 * numbers * (a.num_heads + 1), elements=numbers, library=TORCH)


def _latent_grad(op: Op, place: Place) -> Iterator[Op]:
    a = place.model.attention
    assert isinstance(a, MlaAttention)
    yield _joined(op.name, place.tokens * (a.kv_lora_rank + a.qk_rope_head_dim), "I")


def _residual(op: Op, place: Place) -> Iterator[Op]:
    """Of attention's half; the other half's stands behind its last product."""
    yield added(op.name, place.hidden, op.phase)


def _ffn_input_grad(op: Op, place: Place) -> Iterator[Op]:
    """Gradients of the normed input, of router, experts and shared experts, added up; behind the norm the residual's."""
    for idx in range(1 + place.has_shared if place.is_moe else 0):
        yield added(f"{op.name}_{idx}", place.hidden, "I")
    yield added("ffn_residual_grad", place.hidden, "I")


def _attn_input_grad(op: Op, place: Place) -> Iterator[Op]:
    if isinstance(place.model.attention, MlaAttention):
        yield added(op.name, place.hidden, "I")
    yield added("attn_residual_grad", place.hidden, "I")


def _swiglu(op: Op, place: Place) -> Iterator[Op]:
    if moesim_own.is_gated(place.model, place.recipe.own_gemms, op.name):
        yield moesim_own.activated(op, place)
        return
    width, tokens = place.activation(op.name)
    is_routed = op.name.startswith("expert")
    size, launches = WEIGHTED if is_routed else SWIGLU
    variant = "weighted" if is_routed else ""
    yield chain(
        op.name, "swiglu", op.phase, size * tokens * width, kernels=launches, elements=tokens * width, library=OWN,
        variant=variant, routed=is_routed,
    )  # fmt: skip


def _swiglu_bwd(op: Op, place: Place) -> Iterator[Op]:
    width, tokens = place.activation(op.name)
    is_routed = op.name.startswith("expert")
    size, launches = WEIGHTED_BWD if is_routed else SWIGLU_BWD
    if moesim_own.is_gated(place.model, place.recipe.own_gemms, op.name):
        yield from moesim_own.activated_back(op, place)
    else:
        yield chain(
            op.name, "swiglu_bwd", "I", size * tokens * width, kernels=launches, elements=tokens * width, library=OWN,
            variant="weighted" if is_routed else "", routed=is_routed,
        )  # fmt: skip
    if "swiglu" in place.recipe.recompute:
        again = replace(op, name=op.name.replace("_bwd", AGAIN), phase="W")
        yield from _swiglu(again, place)


def _select(op: Op, place: Place) -> Iterator[Op]:
    """Scores, choice, weights; the loads; the balance loss, which of a router with a bias chooses once more without it."""
    scores = place.scores
    yield chain(op.name, "router_pointwise", op.phase, ROUTER * scores, kernels=9, elements=scores, library=OWN)
    yield from counts("router_loads", op.phase, place.rows)
    yield small("router_loads", op.phase, 24 * place.scores // place.tokens, 1)
    if _has_bias(place):
        yield chain(
            "balance_choice", "sort", op.phase, 16 * scores, elements=scores, library=TORCH, dtype="fp32",
            width=scores // place.tokens,
        )  # fmt: skip
    yield from counts("balance_loss", op.phase, place.rows)
    yield from smalls("balance_loss", op.phase, 20 * scores, 9)
    yield chain(
        "balance_mean", "reduce_columns", op.phase, FP32 * scores, elements=scores, library=TORCH, dtype="fp32",
        width=scores // place.tokens,
    )  # fmt: skip


def _select_bwd(op: Op, place: Place) -> Iterator[Op]:
    scores = place.scores
    yield from smalls("balance_loss_bwd", "I", 40 * scores, 11)
    yield chain(op.name, "router_pointwise_bwd", "I", ROUTER * scores, kernels=14, elements=scores, library=OWN)
    yield narrowed("router_scores_grad", scores, "I")


def _has_bias(place: Place) -> bool:
    return place.model.moe is not None and place.model.moe.router_bias


def _map(op: Op, place: Place) -> Iterator[Op]:
    """Order of the rows and their number; the rows' weights in that order."""
    yield chain(op.name, "routing_map", op.phase, 16 * place.rows, kernels=7, library=OWN)
    yield small("row_weights", op.phase, 16 * place.rows, 1)
    yield chain("row_weights_picked", "gather_rows", op.phase, 16 * place.rows, elements=place.rows, library=TORCH)


def _spread(op: Op, place: Place) -> Iterator[Op]:
    """Each token's numbers for each of its rows."""
    if moesim_own.is_gated(place.model, place.recipe.own_gemms, "expert"):
        yield from moesim_own.to_experts(op, place)
        return
    numbers = place.rows * place.model.hidden_size
    yield chain(op.name, "permute", op.phase, 2 * BF16 * numbers, kernels=2, elements=numbers, library=OWN, routed=True)


def _collect(op: Op, place: Place) -> Iterator[Op]:
    """Rows in the order of tokens (4 of a number), summed in FP32 (2, and 4 a token), converted (6 a token)."""
    numbers = place.rows * place.model.hidden_size
    size = (3 * BF16) * numbers + (2 * FP32 + BF16) * place.hidden + 40 * place.rows
    if moesim_own.is_gated(place.model, place.recipe.own_gemms, "expert"):
        yield moesim_own.from_experts(op, place)
    else:
        yield chain(op.name, "unpermute", op.phase, size, kernels=5, elements=numbers, library=OWN, routed=True)
    if op.name.startswith("unpermute_bwd"):
        yield from smalls("row_weights_bwd", "I", 16 * place.rows, 2)
        yield chain(
            "row_weights_places", "scatter_rows", "I", 24 * place.rows, elements=place.rows, library=f"{TORCH}-counted",
            dtype="fp32",
        )  # fmt: skip
        yield chain("row_weights_picked_bwd", "gather_rows", "I", 32 * place.rows, elements=place.rows, library=TORCH)
    elif place.has_shared:
        yield added("shared_sum", place.hidden, op.phase)


def _loss(op: Op, place: Place) -> Iterator[Op]:
    logits, pieces = place.tokens * place.model.vocab_size, -(-place.tokens // LOSS_ROWS)
    yield chain(op.name, "cross_entropy", op.phase, LOSS * logits, kernels=2 * pieces + 5, elements=logits, library=OWN)


def _loss_bwd(op: Op, place: Place) -> Iterator[Op]:
    logits, pieces = place.tokens * place.model.vocab_size, -(-place.tokens // LOSS_ROWS)
    yield chain(
        op.name, "cross_entropy_bwd", "I", LOSS_BWD * logits, kernels=6 * pieces + 1, elements=logits, library=OWN
    )


def _embedding(op: Op, place: Place, is_mtp: bool) -> Iterator[Op]:
    """Looked up; backward a whole matrix of zeros in BF16 to which the tokens' gradients are added, then cast and summed."""
    if op.name.startswith("embedding_wgrad"):
        matrix = place.model.vocab_size * place.model.hidden_size
        yield chain("embedding_grad_zeros", "fill", "W", BF16 * matrix, elements=matrix)
        yield chain(
            op.name, "embedding_bwd", "W", 2 * BF16 * place.hidden, kernels=8, elements=place.hidden, library=TORCH
        )
        yield widened("embedding_grad_cast", matrix, "W")
        yield from summed("embedding_grad_sum", matrix, 1.0 if is_mtp else place.recipe.accumulated)
    else:
        yield replace(op, shape=replace(op.shape, num_kernels=1, library=TORCH))


def _concat(op: Op, place: Place) -> Iterator[Op]:
    yield _joined(op.name, 2 * place.hidden, op.phase)


def _split_grad(op: Op, place: Place) -> Iterator[Op]:
    yield strided(op.name, 2 * place.hidden, "I", kernels=2)


_NORMS: Final = (
    "attn_norm",
    "ffn_norm",
    "final_norm",
    "q_norm",
    "k_norm",
    "kv_norm",
    "mtp_hidden_norm",
    "mtp_embedding_norm",
)
_CHAINS: Final[Mapping[str, Callable[[Op, Place], Iterator[Op]]]] = MappingProxyType({
    **dict.fromkeys(_NORMS, _norm), **{f"{name}_bwd": _norm_bwd for name in _NORMS},
    "q_rope": _rope, "k_rope": _rope, "q_rope_bwd": _rope, "k_rope_bwd": _rope,
    "k_assemble": _keys, "k_grad_assemble": _keys_bwd, "k_rope_grad_sum": _shared_key_bwd, "kv_grad_join": _latent_grad,
    "attn_residual": _residual, "ffn_input_grad": _ffn_input_grad, "attn_input_grad": _attn_input_grad,
    "ffn_swiglu": _swiglu, "shared_swiglu": _swiglu, "expert_swiglu": _swiglu,
    "ffn_swiglu_bwd": _swiglu_bwd, "shared_swiglu_bwd": _swiglu_bwd, "expert_swiglu_bwd": _swiglu_bwd,
    "router_select": _select, "router_select_bwd": _select_bwd, "routing_map": _map,
    "permute": _spread, "permute_bwd": _spread, "unpermute": _collect, "unpermute_bwd": _collect,
    "loss": _loss, "loss_bwd": _loss_bwd, "mtp_concat": _concat, "mtp_split": _split_grad,
})  # fmt: skip
"""Operator of the counted unit → what stands in its place."""
