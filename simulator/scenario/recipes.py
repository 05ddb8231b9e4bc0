"""The family of precision recipes: number formats of a recipe, and what it sets where a scenario says nothing else.

A recipe is one entry here; a scenario names it as `precision.recipe`. How its casts are arranged in kernels is the software's
(simulator/scenario/software.py). Attention, embedding, head and router stay in BF16 in every recipe.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from simulator import not_modelled
from simulator.registry import Family

Fusion = Literal["fuses", "leaves_amax", "none"]
"""What the kernel before a cast can do of it: all of it, or leave the maximum behind that the scale needs, or nothing."""
Scaling = Literal["delayed", "current"]

SEPARATE, TE_2025, TE_2026 = "deepseek-2024", "transformer-engine-2025", "transformer-engine-2026"
"""Members of simulator/scenario/software.py."""


@dataclass(frozen=True, slots=True)
class RecipeRule:
    """Number formats of one recipe.

    gemm_dtype: operands of the layers' GEMMs, which is also the format of what is kept in "fp8". block: elements that
    share a scale; hidden sizes and FFN widths are multiples of it (1: no scales of blocks).
    tensor_core: key of the GPU's peak rates that it needs. scaled_format: of the GPU's block-scaled operands; "": none.
    has_direction: scales or layout run along the reduced dimension, so that a tensor that two GEMMs read is cast for each; a
    scale of the whole tensor serves both, unless the GPU reads FP8 operands in one layout only.
    reads_amax: the scale is of the whole tensor as it is now, whose maximum is read first; never with delayed scaling.
    fusion: what a norm or an activation of a library that fuses casts does of them, by scaling.
    row_padding: rows of an expert are padded to a multiple of it by such a library. hadamard: casts rotate what the weight
    gradients read. scalings: allowed values of precision.scaling, the default one first; (): none.
    software: generations that have kernels for it, that of the published recipe first.
    dispatch_dtype, attn_out, swiglu_in, fp8_weight_cache: defaults of the keys of these names.
    """

    gemm_dtype: str = "bf16"
    block: int = 1
    tensor_core: str = "bf16"
    scaled_format: str = ""
    has_direction: bool = False
    reads_amax: bool = False
    fusion: Mapping[str, Fusion] = field(default_factory=dict)
    row_padding: int = 1
    hadamard: bool = False
    scalings: tuple[Scaling, ...] = ()
    software: tuple[str, ...] = (TE_2025, TE_2026)
    dispatch_dtype: str = "bf16"
    attn_out: str = "bf16"
    swiglu_in: str = "bf16"
    fp8_weight_cache: str = "per_step"

    @property
    def is_quantised(self) -> bool:
        """Whether the layers' GEMMs take operands of 8 or 4 bits."""
        return self.gemm_dtype != "bf16"

    def defaults(self) -> Mapping[tuple[str, ...], str]:
        """Key path → value that holds where the scenario does not say."""
        return {path: getattr(self, path[-1]) for path in DEFAULT_KEYS}


DEFAULT_KEYS: Final = (
    ("moe", "dispatch_dtype"),
    ("recompute", "saved", "attn_out"),
    ("recompute", "saved", "swiglu_in"),
    ("precision", "fp8_weight_cache"),
)
"""Keys that a recipe sets: inherited values fall with another recipe."""

RECIPES: Final[Family[RecipeRule]] = Family("precision recipe", planned=not_modelled.values("precision.recipe"))
RECIPES.add("bf16", RecipeRule(software=(TE_2025, TE_2026, SEPARATE), fp8_weight_cache="none"))
RECIPES.add("fp16", RecipeRule(tensor_core="fp16", software=(TE_2025, TE_2026, SEPARATE), fp8_weight_cache="none"))
"""FP16 operands have BF16's bytes, and its peak on every data sheet; both are priced as BF16. The look for overflows that a
loss scale needs is the pass over the gradients that clipping makes anyway.
"""
RECIPES.add(
    "fp8-blockwise",
    RecipeRule(
        "fp8-block", 128, "fp8", has_direction=True, row_padding=16, software=(SEPARATE, TE_2025, TE_2026),
        dispatch_dtype="fp8", attn_out="e5m6", swiglu_in="fp8",
    ),
)  # fmt: skip
"""1x128 tiles of activations and 128x128 blocks of weights (arXiv:2412.19437, 3.3); Float8BlockScaling of Transformer Engine
(transformer_engine/common/recipe/__init__.py at d0067d0), whose norms and activations fuse nothing of these casts
(pytorch/csrc/extensions/normalization.cpp, activation.cpp).
"""
RECIPES.add("fp8-row", RecipeRule("fp8-row", 1, "fp8", has_direction=True, row_padding=16, software=(SEPARATE,)))
"""A scale a row of an operand, along the reduced dimension (hwprofiles/calibration/numerics/rowwise.py; torchao's float8
training has the same recipe, rowwise). Of other modules than that file's, casts are counted as kernels of their own.
"""
RECIPES.add(
    "fp8-tensor",
    RecipeRule(
        "fp8-tensor", 1, "fp8", reads_amax=True, fusion={"delayed": "fuses", "current": "leaves_amax"}, row_padding=16,
        scalings=("current", "delayed"),
    ),
)  # fmt: skip
"""One scale a tensor: Float8CurrentScaling, DelayedScaling (same file). Current is what Megatron-Bridge at 067f987 takes where
a recipe says no more (src/megatron/bridge/training/mixed_precision.py, fp8_recipe: tensorwise).
"""
RECIPES.add(
    "mxfp8",
    RecipeRule(
        "mxfp8",
        32,
        "fp8",
        scaled_format="mxfp8",
        has_direction=True,
        fusion={"": "fuses"},
        row_padding=32,
    ),
)
"""E8M0 scales of 32 elements along the reduced dimension, both copies from the BF16 tensor: MXFP8BlockScaling (same file)."""
RECIPES.add(
    "nvfp4",
    RecipeRule(
        "nvfp4", 16, "fp4", scaled_format="nvfp4", has_direction=True, reads_amax=True, row_padding=128, hadamard=True
    ),
)
"""E4M3 scales of 16 elements and an FP32 one of the tensor, weights in 16x16 blocks, stochastic rounding of gradients, a random
Hadamard transform of what weight gradients read (arXiv:2509.25149, 4; NVFP4BlockScaling of the same file). The maximum is taken
of the transformed tensor too, by a kernel of its own: norms and activations leave none behind (pytorch/csrc/quantizer.cpp,
with_post_rht_amax).
"""


def fusion(rule: RecipeRule, scaling: str | None) -> Fusion:
    """What a norm or activation of a library that fuses casts does of those of a recipe."""
    return rule.fusion.get(scaling or "", "none")
