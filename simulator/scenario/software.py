"""Generations of training software: which casts, transposes and token-shuffling kernels run around the GEMMs.

A scenario names one as `kernels.casts`; where it does not, the software of the stack that was measured on the GPU says it, else
the recipe's. A generation is one entry here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from simulator.registry import Family
from simulator.scenario.recipes import SEPARATE, TE_2025, TE_2026


@dataclass(frozen=True, slots=True)
class Software:
    """joins_casts: one kernel casts a tensor for both GEMMs that read it; else a kernel each, with transposes of their own.
    casts_in_norms, casts_in_activations: where the recipe's scales allow it.
    """

    joins_casts: bool
    casts_in_norms: bool = False
    casts_in_activations: bool = False


SOFTWARE: Final[Family[Software]] = Family("software generation")
SOFTWARE.add(SEPARATE, Software(joins_casts=False))
"""DeepSeek's training kernels (deepseek-ai/profile-data, train.json)."""
SOFTWARE.add(TE_2025, Software(joins_casts=True, casts_in_norms=True))
"""Transformer Engine's linear layers with the norm in front of them, Megatron-Core's own SwiGLU, which is BF16
(NVIDIA/Megatron-LM megatron/core/extensions/transformer_engine.py, TELayerNormColumnParallelLinear;
core/fusions/fused_bias_swiglu.py).
"""
SOFTWARE.add(TE_2026, Software(joins_casts=True, casts_in_norms=True, casts_in_activations=True))
"""The same with the activation's casts in its kernel (NVIDIA/TransformerEngine at d0067d0,
transformer_engine/common/cast/dispatch/gated.cuh; pytorch/ops/fused/grouped_mlp.py).
"""

DEFAULT: Final = TE_2025
"""Of GPUs without a stack of their own."""
