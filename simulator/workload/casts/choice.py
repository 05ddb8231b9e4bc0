"""Which casts a scenario's recipe, software and GPU lead to."""

from __future__ import annotations

from typing import Final

from simulator.scenario import derived
from simulator.scenario.hardware import operand_copies
from simulator.scenario.recipes import fusion
from simulator.scenario.scenario import Scenario
from simulator.workload.casts.casts import Casts
from simulator.workload.casts.joint import JOINT, JointCasts
from simulator.workload.casts.separate import SeparateCasts

HADAMARD: Final = "quantise_hadamard"
"""The kernel that casts one copy, and the other behind a random Hadamard transform."""


def casts_of(scenario: Scenario) -> Casts:
    """What the recipe's number format adds to the GEMMs in the software's kernels."""
    rule, software, scaling = derived.recipe(scenario), derived.software(scenario), derived.scaling(scenario)
    if not rule.is_quantised:
        return Casts()
    if not software.joins_casts:
        return SeparateCasts(rule.gemm_dtype)
    copies, does = operand_copies(scenario), fusion(rule, scaling)
    return JointCasts(
        rule.gemm_dtype,
        copies=copies,
        reads_amax=rule.reads_amax and scaling != "delayed",
        norm_does=does if software.casts_in_norms else "none",
        activation_does=does if software.casts_in_activations else "none",
        turns=copies > 1 and not rule.has_direction,
        cast_kernel=HADAMARD if rule.hadamard else JOINT,
    )
