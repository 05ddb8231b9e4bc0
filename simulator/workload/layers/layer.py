"""What every transformer layer has, whatever its feed-forward network: attention, norms, the FFN's input in the backward."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from simulator.scenario.model import ModelSpec
from simulator.workload import counting as c
from simulator.workload.layers.attention import attention_block, attention_weights
from simulator.workload.layers.part import Shard, Weights
from simulator.workload.op import Op
from simulator.workload.recipe import Recipe
from simulator.workload.saved import ActivationRecipe, checkpointed
from simulator.workload.tensors import BlockMemory

LAYER_INPUT: Final = "attn.input"
"""The tensor that stays of a layer that is computed again whole."""


def common_weights(model: ModelSpec, shard: Shard) -> Weights:
    """Parameters of a layer without those of its FFN: attention and the norms in front of attention and FFN, or their one."""
    return attention_weights(model, shard.tp) + Weights(0, (1 if model.parallel_block else 2) * model.norm_params)


def input_reload(hidden: int, r: Recipe) -> Iterator[Op]:
    """The FFN's input again in the backward: the norm is recomputed and quantised for the weight gradients."""
    if "rmsnorm" in r.recompute:
        yield c.rmsnorm("ffn_norm_recompute", r.sequence_tokens, hidden, "I")
        yield from r.casts.input_again(r.sequence_tokens, hidden)


def layer_saved(model: ModelSpec, ffn: BlockMemory, r: ActivationRecipe) -> tuple[BlockMemory, ...]:
    """Attention and the given FFN of a layer; under recompute of the whole layer only its input is kept."""
    blocks = attention_block(model, r), ffn
    return checkpointed(blocks, LAYER_INPUT) if "layer" in r.recompute else blocks
