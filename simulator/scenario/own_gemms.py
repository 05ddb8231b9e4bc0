"""What this project's FP8 products want of a scenario (kernels.gemm: moesim)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from hwprofiles.kernels.gemm import gemm_constants
from hwprofiles.kernels.rows import GEMM_VARIANTS
from hwprofiles.kernels.shape import LOOP, OWN_GEMMS
from hwprofiles.stack_choice import default_stack, load_stack
from hwprofiles.stack_records import Stack
from simulator.scenario import derived
from simulator.scenario.recipes import RECIPES
from simulator.scenario.scenario import Scenario
from simulator.scenario.wording import FieldProblem

_KEY: Final = "kernels.gemm"
DTYPE: Final = "fp8-block"
"""Operands of the products that there are."""


def own_gemm_problems(scenario: Scenario, stack: Stack) -> Iterator[FieldProblem]:
    """A recipe of other operands, a launch an expert, or a stack that knows nothing of them."""
    if scenario.kernels.gemm != OWN_GEMMS:
        return
    if derived.recipe(scenario).gemm_dtype != DTYPE:
        able = " or ".join(name for name in RECIPES if RECIPES[name].gemm_dtype == DTYPE)
        text = f"{OWN_GEMMS} has products of FP8 by blocks alone, not of recipe {scenario.precision.recipe}"
        yield _KEY, f"{text}; leave it out, or write precision.recipe: {able}"
        return
    if scenario.kernels.grouped_gemm == LOOP and scenario.is_given("kernels.grouped_gemm"):
        yield (
            "kernels.grouped_gemm",
            f"{LOOP}, but {_KEY}: {OWN_GEMMS} is one launch for all experts; leave one of them out",
        )
    if not _has_rates(scenario, stack):
        text = f"{OWN_GEMMS}, but stack {scenario.stack} has no rates of this project's FP8 products; leave it out"
        usual = default_stack(stack.gpu)
        if usual != scenario.stack and _has_rates(scenario, load_stack(usual)):
            text += f", or write stack: {usual}"
        yield _KEY, f"{text}, or name a stack of `moesim calibrate` of a GPU that runs them"


def _has_rates(scenario: Scenario, stack: Stack) -> bool:
    """Whether the stack has constants of each of the products that the model takes."""
    kinds = (False, True) if scenario.model.moe is not None else (False,)
    return all(
        gemm_constants(stack, DTYPE, variant, is_grouped=is_grouped, library=OWN_GEMMS) is not None
        for variant in GEMM_VARIANTS for is_grouped in kinds
    )  # fmt: skip
