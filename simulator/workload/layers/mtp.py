"""Code mtp of a layout: a multi-token-prediction module: projection, one layer, and its own pass through the head.

Under tensor parallelism the projection is column-parallel and its columns are gathered behind it (Megatron-LM
core/transformer/multi_token_prediction.py): every rank then has all of them, and goes on with its own tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from simulator.scenario.model import ModelSpec
from simulator.workload import counting as c
from simulator.workload.layers import embedding
from simulator.workload.layers import tensor_parallel as tp
from simulator.workload.layers.dense import DENSE
from simulator.workload.layers.head import HEAD, head_block, head_unit
from simulator.workload.layers.linear import column_dgrad, own_operands
from simulator.workload.layers.moe import MOE
from simulator.workload.layers.part import PARTS, Blocks, Params, Part, Shard, Vocabulary, Weights, joined
from simulator.workload.op import Collective, Unit, Work
from simulator.workload.recipe import Recipe
from simulator.workload.saved import ActivationRecipe, BlockBuilder, bf16, checkpointed
from simulator.workload.tensors import BlockMemory


def forward(hidden: int, r: Recipe) -> Iterator[Work]:
    """Norms of the hidden state and of the next token's embedding, concatenation, projection 2h → h."""
    t, s = r.tokens, r.sequence_tokens
    yield c.rmsnorm("mtp_hidden_norm", s, hidden)
    yield c.rmsnorm("mtp_embedding_norm", s, hidden)
    yield c.copy("mtp_concat", 2 * s * hidden, 2 * s * hidden)
    yield from r.casts.operand("mtp_proj_quantise", s, 2 * hidden)
    yield from tp.gather_input("mtp_proj", 2 * hidden, r)
    yield c.fprop("mtp_proj", r.gemm_dtype, t, hidden // r.tp, 2 * hidden)
    if r.tp > 1:
        yield Collective("mtp_proj_output_gather", "all_gather", "tp", 2 * t * hidden, "F")


def backward_input(hidden: int, r: Recipe) -> Iterator[Work]:
    """Input gradient of the same."""
    s, columns = r.sequence_tokens, hidden // r.tp
    yield from tp.gather_output_grad("mtp_proj", hidden, r, chunked=False)
    yield from column_dgrad(r, "mtp_proj", columns, 2 * hidden, own_operands("mtp_proj", columns, 2 * hidden))
    yield c.copy("mtp_split", 2 * s * hidden, 2 * s * hidden, "I")
    yield c.rmsnorm_bwd("mtp_hidden_norm_bwd", s, hidden)
    yield c.rmsnorm_bwd("mtp_embedding_norm_bwd", s, hidden)


def backward_weight(hidden: int, r: Recipe) -> Iterator[Work]:
    """Gradient of the projection and of the embedding row."""
    yield c.wgrad("mtp_proj_wgrad", r.gemm_dtype, r.tokens, hidden // r.tp, 2 * hidden)
    yield from embedding.backward(hidden, r)


def _layer(model: ModelSpec) -> Part:
    """The kind of layer that a module holds: the kind of the model's last one."""
    return MOE if model.layers[-1] == "m" else DENSE


def params(model: ModelSpec, shard: Shard) -> Params:
    """Projection, norms of the hidden state and of the embedding, the layer, the norm before the borrowed head."""
    h, layer = model.hidden_size, _layer(model).params(model, shard)
    own = Weights(2 * h * h // shard.tp, 3 * model.norm_params)
    return replace(
        layer, dense=layer.dense + own.total, gemm=layer.gemm + own.gemm + HEAD.params(model, shard).gemm,
        replicated=layer.replicated + own.replicated,
    )  # fmt: skip


def vocabulary(model: ModelSpec) -> frozenset[Vocabulary]:
    """The matrices that embed the next token and give its logits."""
    return embedding.EMBEDDING.vocabulary(model) | HEAD.vocabulary(model)


def units(model: ModelSpec, r: Recipe) -> tuple[Unit, ...]:
    """Projection and layer in one unit, then the head."""
    h = model.hidden_size
    projected = tuple(forward(h, r))
    blocks: Blocks = {
        "attn_f": (*embedding.forward(h, r), *projected),
        "attn_b": tuple(backward_input(h, r)),
        "attn_w": tuple(backward_weight(h, r)),
    }
    if "layer" in r.recompute:
        blocks["attn_r"] = c.again(projected)
    projection = Unit("projection", "dense", blocks)
    (layer,) = _layer(model).units(model, r)
    return replace(joined(projection, layer), name="mtp"), head_unit(model, "mtp_head", r)


def _input_block(model: ModelSpec, r: ActivationRecipe) -> BlockMemory:
    """Norms of the hidden state and of the next token's embedding, and the projection of both to the hidden size.

    The hidden state is the input of the head in front, the main one's or that of the module before: one tensor.
    """
    h, s = model.hidden_size, r.sequence_tokens
    block = BlockBuilder("mtp_input", r)
    block.keep("mtp.input", "bf16", s * h if r.has_hidden else 2 * s * h)
    block.operand("mtp.norm_out", 2 * s * h, recomputed=r.drops_norms)
    block.gradient("mtp.projection_grad", s * h)
    block.backward.append(bf16("mtp.input_grad", 2 * s * h))
    return block.build()


def saved(model: ModelSpec, r: ActivationRecipe) -> tuple[BlockMemory, ...]:
    """What projection, layer and head keep."""
    single = replace(r, recompute=r.recompute - {"layer"})
    blocks = _input_block(model, r), *_layer(model).saved(model, single)
    if "layer" in r.recompute:
        blocks = checkpointed(blocks, "mtp.input")
    return *blocks, head_block(model, r)


MTP = PARTS.add("mtp", Part(params, units, saved, vocabulary, series="mtp", num_attentions=1, is_behind_head=True))
