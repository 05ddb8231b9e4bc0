"""Whether any layout of a scenario fits on its GPUs, by memory alone: nothing is simulated."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

from hwprofiles.stack_choice import load_stack
from simulator.run.planner.smallest import largest_margin
from simulator.scenario.assumptions import resolve_assumptions
from simulator.scenario.hardware import gpu_of
from simulator.scenario.muon_rules import is_muon
from simulator.scenario.scenario import Scenario
from simulator.workload.memory import MemoryAssumptions, state_recipe, usable_bytes
from simulator.workload.model_counts import count_parameters
from simulator.workload.model_state import StageParams, rank_states
from simulator.workload.tensors import total_bytes

PROBE: Final = 65_536
"""Parameters whose state is asked for, to know that of one."""
ZERO_STAGES: Final = (0, 1, 2, 3)


def fits_any(scenario: Scenario) -> bool:
    """Whether a legal layout fits on the scenario's GPUs, by the screen of memory; its own layout does not count."""
    if scenario.cluster.num_gpus < least_gpus(scenario):
        return False
    margin = largest_margin(scenario)
    return margin is not None and margin >= 0


def least_gpus(scenario: Scenario) -> int:
    """GPUs that hold the model's state alone, where each holds an equal share of all of it."""
    gpu, found = gpu_of(scenario), resolve_assumptions(scenario, load_stack(scenario.stack))
    assumed = MemoryAssumptions.of({key: assumption.value for key, assumption in found.items()})
    usable = usable_bytes(gpu.device_bytes or gpu.hbm_bytes, assumed.needed_frac)
    bytes_each = min(_bytes_of_parameter(scenario, assumed, zero) for zero in ZERO_STAGES)
    return max(1, math.ceil(_parameters(scenario) * bytes_each / usable))


def _bytes_of_parameter(scenario: Scenario, assumed: MemoryAssumptions, zero_stage: int) -> float:
    """Bytes of one parameter's weight, gradient and optimizer state, which one GPU has alone."""
    plan = scenario.parallel.model_copy(update={"zero_stage": zero_stage, "tp": 1, "cp": 1, "pp": 1, "ep": 1, "etp": 1})
    recipe = replace(
        state_recipe(scenario.model_copy(update={"parallel": plan}), assumed),
        dense_replicas=1, expert_replicas=1, keeps_placeholders=False,
    )  # fmt: skip
    single = PROBE if is_muon(scenario) else 0
    state = rank_states([StageParams(PROBE, 0, 0, 0, one_moment=(single, 0))], recipe, ((0,),))[0]
    return sum(total_bytes(part) for part in (state.weights, state.gradients, state.optimizer)) / PROBE


def _parameters(scenario: Scenario) -> int:
    counts = count_parameters(scenario.model)
    return counts.num_parameters + counts.num_mtp_parameters
