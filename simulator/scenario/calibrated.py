"""What a calibrated stack's own word of its machine has to say to a scenario."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from hwprofiles.catalog import gpu_of_device
from hwprofiles.stack_choice import stack_provenance
from hwprofiles.stack_folders import plain_name
from simulator.scenario.hardware import gpu_of
from simulator.scenario.scenario import Scenario
from simulator.scenario.wording import FieldProblem

SAME_WATTS: Final = 0.005
"""Limits that differ by less are one, rounded."""


def calibrated_warnings(scenario: Scenario) -> Iterator[FieldProblem]:
    """A device that is another GPU than the stack says it is of. A board that was limited below its data sheet when it was
    measured, and a scenario that does not say so of its own.
    """
    provenance, gpu = stack_provenance(scenario.stack), gpu_of(scenario)
    stated = provenance.calibration
    device = gpu_of_device(stated.device) if stated and stated.device else None
    if device not in (None, provenance.gpu):
        assert stated
        text = (
            f"{plain_name(scenario.stack)} says that it is of {provenance.gpu}, and was measured on a {stated.device},"
        )
        yield "stack", f"{text} which is {device}; write gpu: {device} in its provenance.yaml"
    limit = stated.power_limit_w if stated else None
    if limit is None or scenario.device.power_cap_w is not None or scenario.device.clock == "burst":
        return
    if limit < gpu.tdp_w * (1.0 - SAME_WATTS):
        text = f"{plain_name(scenario.stack)} was measured under a limit of {limit:g} W, and {gpu.name} is taken at its"
        text += f" {gpu.tdp_w:g} W"
        yield "device.power_cap_w", f"{text}; for GPUs that are limited so, --set device.power_cap_w={limit:g}"
