"""Keys and values that generating a token reads: bytes and FLOP of attention over a cache, by kind of attention.

MLA caches the latent and the rope key of a token, once for all heads, and attends in the latent space (its up-projections are
absorbed into queries and outputs: DeepSeek-V2, arXiv:2405.04434, 2.1.2); grouped heads cache a key and a value a group.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from math import fsum

from simulator.scenario.model import GqaAttention, MlaAttention, ModelSpec
from simulator.workload.model_counts import FLOP_PER_MULTIPLY_ADD
from simulator.workload.tensors import BYTE_BITS, FORMAT_BITS


@dataclass(frozen=True, slots=True)
class LayerCache:
    """Layers with one cache, on one of the ranks that share their heads. bytes_per_token: of a cached token and layer;
    flop_per_pair: of a query and a cached token, all heads; window: cached tokens of a sequence at most, None: all.
    """

    layers: int
    bytes_per_token: float
    flop_per_pair: float
    window: int | None = None

    def tokens(self, context: float) -> float:
        """Cached tokens that a query of a sequence of so many reads."""
        return context if self.window is None else min(context, float(self.window))


def layer_caches(model: ModelSpec, kv_dtype: str = "bf16", tp: int = 1) -> tuple[LayerCache, ...]:
    """The caches of a model's layers (MTP modules aside) on one of tp ranks that share the heads."""
    counted = Counter(_of(model.at_layer(layer).attention.cut(tp), kv_dtype) for layer in range(model.num_layers))
    return tuple(LayerCache(layers, *sizes) for sizes, layers in counted.items())


def cache_bytes(caches: Iterable[LayerCache], context: float) -> float:
    """Bytes of one sequence of so many tokens."""
    return fsum(each.layers * each.bytes_per_token * each.tokens(context) for each in caches)


def _of(attention: MlaAttention | GqaAttention, kv_dtype: str) -> tuple[float, float, int | None]:
    """(bytes a token, FLOP a query and cached token, window) of one layer."""
    num_bytes = FORMAT_BITS["fp8-tensor" if kv_dtype == "fp8" else kv_dtype] / BYTE_BITS
    if isinstance(attention, MlaAttention):
        latent, rope = attention.kv_lora_rank, attention.qk_rope_head_dim
        return num_bytes * (latent + rope), FLOP_PER_MULTIPLY_ADD * attention.num_heads * (2 * latent + rope), None
    heads, size = attention.num_heads, attention.head_dim
    return num_bytes * 2 * attention.num_kv_heads * size, FLOP_PER_MULTIPLY_ADD * heads * 2 * size, attention.window
