"""What blocks of plain torch modules keep of one micro-batch: what autograd keeps for the functions of their tapes.

Gradients of weights come with the backward (BlockMemory.gradients). A layer that is computed again whole keeps its input.
"""

from __future__ import annotations

from collections.abc import Iterable

from simulator.scenario.model import ModelSpec
from simulator.workload.layers.layer import LAYER_INPUT
from simulator.workload.plain import blocks as b
from simulator.workload.plain.tape import Kept
from simulator.workload.saved import ActivationRecipe, checkpointed
from simulator.workload.tensors import BlockMemory, Tensor


def plain_blocks(code: str, model: ModelSpec, r: ActivationRecipe) -> tuple[BlockMemory, ...]:
    """Of a part of the layout: E, d, m or L."""
    if code == "E":
        return (BlockMemory("embedding", ()),)
    if code == "L":
        found = b.head_block(model.hidden_size, model.vocab_size, r.tokens)
        return (_block("head", found),)
    ffn = b.moe_block(model, r.tokens) if code == "m" else b.ffn_block(model, r.tokens)
    name = "moe_ffn" if code == "m" else "dense_ffn"
    if "layer" not in r.recompute:
        return _block("attention", b.attention_block(model, r.tokens, r.seq)), _block(name, ffn)
    entry = (Kept(LAYER_INPUT, 2 * r.tokens * model.hidden_size),)
    attention = _block("attention", b.attention_block(model, r.tokens, r.seq), entry)
    return checkpointed((attention, _block(name, ffn)), LAYER_INPUT)


def _block(name: str, found: b.Traced, more: Iterable[Kept] = ()) -> BlockMemory:
    saved = tuple(Tensor(each.name, each.num_bytes) for each in (*more, *found.kept))
    return BlockMemory(
        name, saved,
        working_forward=(Tensor(f"{name}.working", found.working_forward),),
        working_backward=(Tensor(f"{name}.working_grads", found.working_backward),),
    )  # fmt: skip
