"""Whether any layout of a scenario fits on its GPUs, by memory alone: nothing is simulated."""

from __future__ import annotations

import math

from hwprofiles.stack_choice import load_stack
from simulator.run.planner.memory_screen import PROBE, bytes_of_one
from simulator.run.planner.smallest import largest_margin
from simulator.run.planner.space import ZERO_STAGES
from simulator.scenario.assumptions import resolve_assumptions
from simulator.scenario.hardware import gpu_of
from simulator.scenario.muon_rules import is_muon
from simulator.scenario.scenario import Scenario
from simulator.workload.memory import MemoryAssumptions, state_recipe, usable_bytes
from simulator.workload.model_counts import count_parameters
from simulator.workload.model_state import StageParams


def fits_any(scenario: Scenario) -> bool:
    """Whether a legal layout fits on the scenario's GPUs, by the screen of memory; its own layout does not count."""
    if scenario.cluster.num_gpus < least_gpus(scenario):
        return False
    margin = largest_margin(scenario)
    return margin is not None and margin >= 0


def least_gpus(scenario: Scenario) -> int:
    """GPUs that hold the model's state alone, where each holds an equal share of all of it."""
    found = resolve_assumptions(scenario, load_stack(scenario.stack))
    assumed = MemoryAssumptions.of({key: assumption.value for key, assumption in found.items()})
    usable = usable_bytes(gpu_of(scenario).memory_bytes, assumed.needed_frac)
    bytes_each = min(_bytes_of_parameter(scenario, assumed, zero) for zero in ZERO_STAGES)
    return max(1, math.ceil(_parameters(scenario) * bytes_each / usable))


def _bytes_of_parameter(scenario: Scenario, assumed: MemoryAssumptions, zero_stage: int) -> float:
    """Bytes of one parameter's weight, gradient and optimizer state, which one GPU has alone."""
    plan = scenario.parallel.model_copy(update={"zero_stage": zero_stage, "tp": 1, "cp": 1, "pp": 1, "ep": 1, "etp": 1})
    recipe = state_recipe(scenario.model_copy(update={"parallel": plan}), assumed)
    single = PROBE if is_muon(scenario) else 0
    return sum(bytes_of_one(StageParams(PROBE, 0, 0, 0, one_moment=(single, 0)), recipe))


def _parameters(scenario: Scenario) -> int:
    counts = count_parameters(scenario.model)
    return counts.num_parameters + counts.num_mtp_parameters
