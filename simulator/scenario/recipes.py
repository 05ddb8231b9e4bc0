"""The family of precision recipes: what a recipe sets where a scenario says nothing else.

A recipe is one entry here; a scenario names it as `precision.recipe`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from simulator import not_modelled
from simulator.registry import Family


@dataclass(frozen=True, slots=True)
class RecipeRule:
    """Number formats of one recipe.

    gemm_dtype: operands of the layers' GEMMs, which is also the format of what is kept in "fp8". block: elements that
    share a scale; hidden sizes and FFN widths are multiples of it (1: no scales).
    tensor_core: key of the GPU's peak rates that it needs.
    dispatch_dtype, attn_out, swiglu_in, fp8_weight_cache: defaults of the keys of these names.
    """

    gemm_dtype: str
    block: int
    tensor_core: str
    dispatch_dtype: str
    attn_out: str
    swiglu_in: str
    fp8_weight_cache: str

    @property
    def is_fp8(self) -> bool:
        """Whether the layers' GEMMs take FP8 operands."""
        return self.tensor_core == "fp8"

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
RECIPES.add("bf16", RecipeRule("bf16", 1, "bf16", "bf16", "bf16", "bf16", "none"))
RECIPES.add("fp16", RecipeRule("bf16", 1, "fp16", "bf16", "bf16", "bf16", "none"))
"""FP16 operands have BF16's bytes, and its peak on every data sheet; both are priced as BF16. The look for overflows that a
loss scale needs is the pass over the gradients that clipping makes anyway.
"""
RECIPES.add("fp8-blockwise", RecipeRule("fp8-block", 128, "fp8", "fp8", "e5m6", "fp8", "per_step"))
"""1x128 blocks of activations and 128x128 blocks of weights (arXiv:2412.19437, 3.3)."""
