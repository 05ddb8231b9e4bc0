"""Memory of every pipeline rank for one step, from the scenario's parts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import sqrt

from simulator.assembly.memory_peak import RankMemory, rank_memory
from simulator.results.step_result import Memory, StageMemory
from simulator.scenario import derived
from simulator.schedule import build_schedule
from simulator.step.inputs import StepInputs
from simulator.workload.group_law import expected_maximum
from simulator.workload.memory import (
    BALANCED,
    MemoryAssumptions,
    activation_recipe,
    buffer_tensors,
    state_recipe,
    usable_bytes,
)
from simulator.workload.model_state import rank_states, stage_params, transposes_weights
from simulator.workload.stages import stage_blocks


def step_memory(inputs: StepInputs, batch: int, schedule_name: str | None = None) -> Memory:
    """The result document's memory section, and whether the worst rank fits."""
    assumed = _assumed(inputs)
    device = inputs.gpu.device_bytes or inputs.gpu.hbm_bytes
    ranks = rank_memories(inputs, batch, schedule_name)
    return Memory.of(
        capacity_bytes=int(device),
        usable_bytes=usable_bytes(device, assumed.fragmentation_frac),
        by_stage=(
            StageMemory(
                pp_rank=rank.pp_rank,
                weights_bytes=rank.weights_bytes,
                gradients_bytes=rank.gradients_bytes,
                optimizer_bytes=rank.optimizer_bytes,
                activations_bytes=rank.activations_bytes,
                buffers_bytes=rank.buffers_bytes,
                peak_bytes=rank.peak_bytes,
            )
            for rank in ranks
        ),
    )


def rank_memories(inputs: StepInputs, batch: int, schedule_name: str | None = None) -> tuple[RankMemory, ...]:
    """Every rank at its fullest instant, with the tensors that are there."""
    scenario, workload, assumed = inputs.scenario, inputs.workload, _assumed(inputs)
    name = schedule_name or scenario.parallel.schedule
    schedule = build_schedule(name, scenario.parallel.pp, derived.num_micro_batches(scenario, batch))
    layout = derived.layout(scenario)
    recipe = activation_recipe(scenario, assumed, _persistent_loads(inputs, schedule.placement))
    state = state_recipe(scenario, assumed, transposes_weights=transposes_weights(workload))
    params = [stage_params(stage) for stage in workload.stages]
    buffers = partial(
        buffer_tensors, scenario, assumed, workload.boundary_bytes, gpus_per_node=inputs.network.gpus_per_node
    )
    return rank_memory(
        schedule,
        [stage_blocks(inputs.model, codes, recipe) for codes in layout],
        rank_states(inputs.model, layout, params, state, schedule.placement),
        [buffers(held=held) for held in schedule.placement],
    )


def _persistent_loads(inputs: StepInputs, placement: Sequence[Sequence[int]]) -> tuple[float, float]:
    """Rows of the fullest rank over the even load that the router leaves: mean over its layers, and of one layer.

    A rank's experts are hot in one layer and cold in another, so that the spread of their mean falls with the layers.
    """
    model = inputs.load_model
    if model is None or model.persistent_cv == 0:
        return BALANCED
    moe_units = [sum(unit.kind == "moe" for unit in stage.units) for stage in inputs.workload.stages]
    layers = max(1, *(sum(moe_units[stage] for stage in held) for held in placement))
    mean = expected_maximum(model.persistent_cv / sqrt(layers), model.ranks)
    return mean, expected_maximum(model.persistent_cv, model.ranks)


def _assumed(inputs: StepInputs) -> MemoryAssumptions:
    return MemoryAssumptions.of({key: assumption.value for key, assumption in inputs.assumptions.items()})
