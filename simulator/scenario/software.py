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
    casts_in_norms, casts_in_activations: where the recipe's scales allow it. maps_rows: rows are found for the experts by
    kernels that run over the map of tokens to experts; else by ones that wait for each other. fuses_router: scores, selection
    and probabilities are one kernel.
    """

    joins_casts: bool
    casts_in_norms: bool = False
    casts_in_activations: bool = False
    maps_rows: bool = False
    fuses_router: bool = False


SOFTWARE: Final[Family[Software]] = Family("software generation")
SOFTWARE.add(SEPARATE, Software(joins_casts=False))
"""DeepSeek's training kernels (deepseek-ai/profile-data, train.json)."""
SOFTWARE.add(TE_2025, Software(joins_casts=True, casts_in_norms=True, maps_rows=True))
"""Transformer Engine's linear layers with the norm in front of them, Megatron-Core's own SwiGLU, which is BF16
(NVIDIA/Megatron-LM megatron/core/extensions/transformer_engine.py, TELayerNormColumnParallelLinear;
core/fusions/fused_bias_swiglu.py); its row map (NVIDIA/TransformerEngine at d0067d0, transformer_engine/common/triton/
permutation.py), and a router of torch operations.
"""
SOFTWARE.add(TE_2026, Software(True, casts_in_norms=True, casts_in_activations=True, maps_rows=True, fuses_router=True))
"""The same with the activation's casts in its kernel and a fused router (transformer_engine/common/cast/dispatch/gated.cuh;
pytorch/ops/fused/grouped_mlp.py; common/fused_router/fused_topk_with_score_function.cu).
"""

DEFAULT: Final = TE_2025
"""Of GPUs without a stack of their own."""
