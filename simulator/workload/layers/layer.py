"""What every transformer layer has, whatever its feed-forward network: attention, norms, the FFN's input in the backward."""

from __future__ import annotations

from collections.abc import Iterator

from simulator.scenario.model import ModelSpec
from simulator.workload import counting as c
from simulator.workload.layers.attention import attention_block, attention_weights
from simulator.workload.layers.part import Weights
from simulator.workload.op import Op
from simulator.workload.recipe import Recipe
from simulator.workload.saved import ActivationRecipe, recomputed
from simulator.workload.tensors import BlockMemory


def common_weights(model: ModelSpec) -> Weights:
    """Parameters of a layer without those of its FFN: attention and the two norms in front of attention and FFN."""
    return attention_weights(model) + Weights(0, 2 * model.hidden_size)


def input_reload(hidden: int, r: Recipe) -> Iterator[Op]:
    """The FFN's input again in the backward: the norm is recomputed and quantised for the weight gradients."""
    if "rmsnorm" in r.recompute:
        yield c.rmsnorm("ffn_norm_recompute", r.tokens, hidden, "I")
        if r.is_fp8:
            yield c.quantise("ffn_input_quantise_recompute", r.tokens, hidden, "I")


def layer_saved(model: ModelSpec, ffn: BlockMemory, r: ActivationRecipe) -> tuple[BlockMemory, ...]:
    """Attention and the given FFN of a layer; under recompute of the whole layer only its input is kept."""
    attention = attention_block(model, r)
    if "layer" not in r.recompute:
        return attention, ffn
    light_attention, light_ffn = recomputed(attention, ("attn.input",)), recomputed(ffn, ())
    # The whole layer is computed again before its FFN's backward: the attention's tensors are there too by then.
    waiting = tuple(tensor for tensor in attention.saved if tensor.name != "attn.input")
    return light_attention, BlockMemory(
        light_ffn.name, light_ffn.saved, light_ffn.deferred, light_ffn.working_forward,
        (*light_ffn.working_backward, *waiting),
    )  # fmt: skip
