"""Memory of every pipeline rank for one step, from the scenario's parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from math import sqrt
from typing import Final

from simulator.assembly.memory_peak import RankMemory, host_activations, rank_memory
from simulator.results.interval import Estimate
from simulator.results.step_memory import MEMORY_KINDS, Memory, MemoryKind, StageMemory, StageTensor
from simulator.scenario.hardware import node_of
from simulator.scenario.module_rules import OWN
from simulator.scenario.muon_rules import deals_whole_matrices, is_muon
from simulator.scenario.scenario import Scenario
from simulator.schedule.action import Schedule
from simulator.step.data_parallel import with_held_copies
from simulator.step.hardware import Hardware
from simulator.step.muon import dealt_parameters, state_matrices
from simulator.step.offload import offloaded_stages
from simulator.workload.buckets import bucket_parameters
from simulator.workload.expert_load import LoadModel
from simulator.workload.graph_memory import (
    NO_GRAPHS,
    GraphNeeds,
    captured,
    captured_micro_batches,
    fixes_rows,
    is_captured,
    rank_needs,
    static_bytes,
    unpacked,
    with_fixed_rows,
)
from simulator.workload.group_law import expected_maximum
from simulator.workload.memory import (
    BALANCED,
    MemoryAssumptions,
    activation_recipe,
    buffer_tensors,
    margin,
    state_recipe,
    usable_bytes,
)
from simulator.workload.model_state import StageParams, rank_states, stage_params
from simulator.workload.offload import Offloaded
from simulator.workload.op import StageWorkload, Workload
from simulator.workload.saved import retained
from simulator.workload.tensors import BlockMemory, Tensor, total_bytes

SMALL_PARTS: Final = 200
"""A tensor below this part of the peak is told in sum with others of its kind."""


@dataclass(frozen=True)
class MemoryQuestion:
    """What the memory of a step follows from. load: as in `Randomness`, None where experts are loaded evenly.

    lowest, highest: every memory assumption at that end of its range.
    """

    scenario: Scenario
    hardware: Hardware
    workload: Workload
    load: LoadModel | None
    assumed: MemoryAssumptions
    lowest: MemoryAssumptions
    highest: MemoryAssumptions


def step_memory(question: MemoryQuestion, schedule: Schedule) -> Memory:
    """The result document's memory section, and whether the worst rank fits."""
    gpu, assumed = question.hardware.gpu, question.assumed
    device = gpu.memory_bytes
    host = host_bytes(question, schedule)
    stages = [
        StageMemory(
            pp_rank=rank.pp_rank,
            weights_bytes=rank.weights_bytes,
            gradients_bytes=rank.gradients_bytes,
            optimizer_bytes=rank.optimizer_bytes,
            activations_bytes=rank.activations_bytes,
            buffers_bytes=rank.buffers_bytes,
            peak_bytes=rank.peak_bytes,
            tensors=stage_tensors(rank),
            host_bytes=None if host is None else host[rank.pp_rank],
        )
        for rank in rank_memories(question, schedule)
    ]
    worst = max(stages, key=lambda stage: stage.peak_bytes)
    peak, graphs = worst.peak_bytes, graph_needs(question, schedule)[worst.pp_rank]
    ends = (question.lowest, assumed, question.highest)
    low, value, high = (margin(question.scenario, peak, assumed, end, graphs) / peak for end in ends)
    return Memory.of(
        capacity_bytes=int(device),
        usable_bytes=usable_bytes(device, assumed.needed_frac),
        by_stage=stages,
        margin=Estimate(value=value, low=low, high=high),
        host_capacity_bytes=None if host is None else _host_share(question.scenario),
    )


def _host_share(scenario: Scenario) -> int:
    """A GPU's share of its host's memory."""
    node = node_of(scenario)
    return (node.host_memory_bytes or 0) // min(node.gpus_per_node, scenario.cluster.num_gpus)


def stage_tensors(rank: RankMemory) -> tuple[StageTensor, ...]:
    """The named tensors of a rank's fullest instant, largest first; the small ones of a kind in one, in its place."""
    found: list[StageTensor] = []
    small: dict[MemoryKind, int] = {}
    for name, num_bytes in rank.tensors.items():
        kind = kind_of(name)
        if num_bytes * SMALL_PARTS < rank.peak_bytes:
            small[kind] = small.get(kind, 0) + num_bytes
        else:
            found.append(StageTensor(name=name, kind=kind, bytes=num_bytes))
    found += [StageTensor(name=f"{kind}.small", kind=kind, bytes=small[kind]) for kind in MEMORY_KINDS if kind in small]
    return tuple(sorted(found, key=lambda tensor: (-tensor.bytes, tensor.name)))


def kind_of(name: str) -> MemoryKind:
    """What a tensor's owner, the first part of its dotted name, holds: state and buffers say so, the others are activations."""
    owner = name.partition(".")[0]
    return next((kind for kind in MEMORY_KINDS if kind == owner), "activations")


def _has_late_gradients(scenario: Scenario) -> bool:
    """Whether gradients are dropped behind a step, and are there again from the first backward."""
    return scenario.kernels.autograd == "eager" or scenario.kernels.modules == OWN


def rank_memories(question: MemoryQuestion, schedule: Schedule) -> tuple[RankMemory, ...]:
    """Every rank at its fullest instant, with the tensors that are there."""
    scenario, workload, assumed = question.scenario, question.workload, question.assumed
    has_pairs = _has_pairs(schedule)
    state = replace(state_recipe(scenario, assumed), halves=2 if has_pairs else 1)
    stages = with_held_copies(scenario, workload, schedule)[0].stages
    params = [_params(scenario, stage, schedule) for stage in stages]
    gpus_per_node = question.hardware.network.gpus_per_node
    buffers = partial(buffer_tensors, scenario, assumed, workload.boundary_bytes, gpus_per_node=gpus_per_node)
    count = schedule.num_micro_batches
    kept, blocks = _kept(question, schedule)
    graphs = graph_needs(question, schedule)
    return rank_memory(
        schedule,
        blocks,
        rank_states(params, state, schedule.placement),
        [
            (
                *buffers(held=held, num_micro_batches=count),
                _copies([kept[stage] for stage in held]),
                *graphs[rank].tensors(assumed),
            )
            for rank, held in enumerate(schedule.placement)
        ],
        late_gradients=_has_late_gradients(scenario) and not state.shards_gradients,
    )


def _has_pairs(schedule: Schedule) -> bool:
    return any(action.kind == "FB" for actions in schedule.ranks for action in actions)


def _kept(question: MemoryQuestion, schedule: Schedule) -> tuple[list[Offloaded], list[tuple[BlockMemory, ...]]]:
    """What every stage keeps of a micro-batch, and its blocks on the GPU."""
    scenario, assumed = question.scenario, question.assumed
    loads = _persistent_loads(question, schedule.placement)
    recipe = with_fixed_rows(activation_recipe(scenario, assumed, loads, question.workload.capacity), scenario, assumed)
    kept = offloaded_stages(scenario, recipe)
    blocks = [stage.blocks for stage in kept]
    if recipe.is_eager and recipe.keeps_outputs:
        blocks = [tuple(map(retained, each)) for each in blocks]
    if fixes_rows(scenario):
        blocks = [tuple(unpacked(block, recipe) for block in each) for each in blocks]
    return kept, blocks


def graph_needs(question: MemoryQuestion, schedule: Schedule) -> tuple[GraphNeeds, ...]:
    """What captured graphs need on every rank."""
    scenario, workload = question.scenario, question.workload
    if not is_captured(scenario):
        return (NO_GRAPHS,) * len(schedule.placement)
    blocks = [tuple(captured(block, scenario) for block in each) for each in _kept(question, schedule)[1]]
    count = captured_micro_batches(scenario, schedule.num_micro_batches, _has_pairs(schedule))
    tokens = activation_recipe(scenario, question.assumed).tokens
    static = static_bytes(scenario, workload.boundary_bytes, tokens, schedule.num_micro_batches)
    stages = with_held_copies(scenario, workload, schedule)[0].stages
    return tuple(
        rank_needs(
            scenario,
            [stages[each] for each in held],
            chain.from_iterable(blocks[each] for each in held),
            pooled,
            static,
            count,
        )
        for held, pooled in zip(schedule.placement, host_activations(schedule, blocks), strict=True)
    )


def _params(scenario: Scenario, stage: StageWorkload, schedule: Schedule) -> StageParams:
    """A stage's parameters, how many of them have one moment, and who has these."""
    params = stage_params(stage, bucket_parameters(scenario))
    if not is_muon(scenario):
        return params
    holders, dealt = len(schedule.holders(stage.stage)), None
    if deals_whole_matrices(scenario):
        dealt = dealt_parameters(scenario, stage, holders)
    return replace(params, one_moment=state_matrices(scenario, stage), dealt=dealt)


def host_bytes(question: MemoryQuestion, schedule: Schedule) -> tuple[int, ...] | None:
    """What the host holds at most for a GPU of every pipeline rank; None where nothing is offloaded."""
    scenario = question.scenario
    if not scenario.offload.is_used:
        return None
    recipe = activation_recipe(scenario, question.assumed, _persistent_loads(question, schedule.placement))
    kept = [stage.on_host for stage in offloaded_stages(scenario, recipe)]
    workload = with_held_copies(scenario, question.workload, schedule)[0]
    params = [_params(scenario, stage, schedule) for stage in workload.stages]
    state = replace(state_recipe(scenario, question.assumed), host_frac=0.0)
    whole = rank_states(params, state, schedule.placement)
    left = rank_states(params, replace(state, host_frac=scenario.offload.optimizer), schedule.placement)
    return tuple(
        activations + total_bytes(all_of.optimizer) - total_bytes(rest.optimizer)
        for activations, all_of, rest in zip(host_activations(schedule, kept), whole, left, strict=True)
    )


def _copies(held: Sequence[Offloaded]) -> Tensor:
    """What waits to be copied to the host behind a layer's forward, and what comes back ahead of a layer's backward."""
    return Tensor("buffers.offload", 2 * max((stage.largest_bytes for stage in held), default=0))


def _persistent_loads(question: MemoryQuestion, placement: Sequence[Sequence[int]]) -> tuple[float, float]:
    """Rows of the fullest rank over the even load that the router leaves: mean over its layers, and of one layer.

    A rank's experts are hot in one layer and cold in another, so that the spread of their mean falls with the layers.
    """
    load = question.load
    if load is None or load.persistent_cv == 0:
        return BALANCED
    moe_units = [sum(unit.kind == "moe" for unit in stage.units) for stage in question.workload.stages]
    layers = max(1, *(sum(moe_units[stage] for stage in held) for held in placement))
    mean = expected_maximum(load.persistent_cv / sqrt(layers), load.ranks)
    return mean, expected_maximum(load.persistent_cv, load.ranks)
