"""Seconds of Muon's updates on a rank, and of the gathers that they need."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import lru_cache

from simulator.assembly.chunks import Piece, Segment
from simulator.assembly.unit_costs import TP_COLLECTIVES, message_segment
from simulator.network.placement import GroupShape
from simulator.scenario import derived
from simulator.scenario.muon_rules import deals_whole_matrices
from simulator.scenario.scenario import Scenario
from simulator.step.messages import MessagePrices
from simulator.step.pricing import KernelPrices
from simulator.workload import muon
from simulator.workload.buckets import WIRE_BYTES
from simulator.workload.counted import uncut_stages
from simulator.workload.muon import UPDATE_BYTES, Matrices, Matrix
from simulator.workload.op import Collective, Op, StageWorkload

OPTIMIZER = "optimizer"


@lru_cache(maxsize=4)
def _uncut(scenario: Scenario) -> tuple[StageWorkload, ...]:
    return uncut_stages(scenario)


def stage_matrices(scenario: Scenario, stage: StageWorkload) -> Matrices:
    """The matrices of a stage on one rank."""
    is_cut = scenario.parallel.tp > 1 or scenario.parallel.etp > 1
    return muon.matrices_of(stage, _uncut(scenario)[stage.layout_stage] if is_cut else stage)


def held_by(scenario: Scenario, matrices: Matrices, ranks: int, *, is_expert: bool) -> Mapping[Matrix, float]:
    """How many matrices of each kind the slowest of the ranks that share them updates."""
    own = Matrices({each: count for each, count in matrices.items() if each.is_expert == is_expert})
    if not own:
        return {}
    if not scenario.parallel.zero_stage or ranks == 1:
        return {each: float(count) for each, count in own.items()}
    return muon.dealt(own, ranks) if deals_whole_matrices(scenario) else muon.evenly_cut(own, ranks)


def updates(
    scenario: Scenario, stage: StageWorkload, groups: Mapping[bool, GroupShape], kernels: KernelPrices,
    messages: MessagePrices,
) -> Iterator[Segment]:  # fmt: skip
    """Muon's part of a stage's optimizer on the slowest rank. groups: ranks that share state, of experts (True) and others."""
    matrices, on = stage_matrices(scenario, stage), scenario.mechanisms.orthogonalisation
    gradient = WIRE_BYTES[scenario.data_parallel.grad_reduce.dtype]
    for is_expert, group in groups.items():
        ranks = group.ranks if scenario.parallel.zero_stage else 1
        held = held_by(scenario, matrices, ranks, is_expert=is_expert)
        if not held:
            continue
        computed = round(sum(each.size * count for each, count in held.items()))
        total = muon.parameters(matrices, is_expert=is_expert)
        owned = computed if deals_whole_matrices(scenario) else -(-total // ranks)
        for op in muon.passes(owned, computed, gradient):
            yield _repeated(op, 1.0, kernels)
        if not on:
            continue
        if ranks > 1 and not deals_whole_matrices(scenario):
            yield _gather_shares(held, total, group, messages)
        for each, count in held.items():
            yield from _update(scenario, each, count, kernels, messages)


def _gather_shares(held: Mapping[Matrix, float], total: int, group: GroupShape, messages: MessagePrices) -> Segment:
    """What of its matrices a rank gets from its neighbours, in BF16: all of them but its own shard."""
    shard = total / group.ranks
    got = max(0.0, sum(each.size * count for each, count in held.items()) - shard)
    ranks = muon.ranks_of_a_matrix(max(each.size for each in held), round(shard), group.ranks)
    nodes = 1 if group.nodes == 1 else min(ranks, max(2, -(-ranks // group.ranks_per_node)))
    near = GroupShape(ranks, nodes, max(1, ranks // nodes), group.node_stride)
    cost = messages.ring("all_gather", round(got * UPDATE_BYTES * ranks / (ranks - 1)), near)
    return message_segment("all_gather_momentum", cost, "data_parallel")


def _update(
    scenario: Scenario, matrix: Matrix, count: float, kernels: KernelPrices, messages: MessagePrices
) -> Iterator[Segment]:
    """The iterations of so many equal matrices, and before them the gather of each over the ranks that share it."""
    whole = scenario.training.muon.tensor_parallel == "duplicated"
    if matrix.is_cut and whole:
        num_bytes = matrix.whole_rows * matrix.whole_columns * UPDATE_BYTES
        collective = Collective("muon", "all_gather", "etp" if matrix.is_expert else "tp", num_bytes, "W")
        one = message_segment("tp_all_gather_momentum", messages.collective(collective), TP_COLLECTIVES)
        yield scaled(one, count)
    worked = matrix.whole() if whole else matrix
    for op, times in muon.iterations(worked, scenario.training.muon.steps):
        yield _repeated(op, count * times, kernels)


def _repeated(op: Op, times: float, kernels: KernelPrices) -> Segment:
    """A kernel so often, on average: its piece is that of all of them."""
    if not op.shape.bytes:
        return Segment(0.0, 0.0, 0.0)
    cost = kernels.unshared_seconds(op)
    work = replace(
        op, flop=op.flop * times, bytes_read=round(op.bytes_read * times), bytes_written=round(op.bytes_written * times)
    )
    all_of = replace(cost, seconds=cost.seconds * times, low=cost.low * times, high=cost.high * times)
    return Segment(
        all_of.seconds, all_of.low, all_of.high, {OPTIMIZER: all_of.seconds}, {cost.basis: all_of.seconds},
        pieces=(Piece(work, all_of),),
    )  # fmt: skip


def scaled(segment: Segment, times: float) -> Segment:
    """A segment so many times as long; its messages are told as one of them is."""
    return replace(
        segment, seconds=segment.seconds * times, low=segment.low * times, high=segment.high * times,
        by_category={name: seconds * times for name, seconds in segment.by_category.items()},
        by_basis={name: seconds * times for name, seconds in segment.by_basis.items()},
    )  # fmt: skip


def state_matrices(scenario: Scenario, stage: StageWorkload) -> tuple[int, int]:
    """Parameters of a stage on a rank that have one momentum: dense ones, experts'."""
    matrices = stage_matrices(scenario, stage)
    return muon.parameters(matrices, is_expert=False), muon.parameters(matrices, is_expert=True)


def dealt_parameters(scenario: Scenario, stage: StageWorkload, holders: int) -> tuple[int, int]:
    """Of these, what the fullest rank updates where whole matrices are dealt. holders: pipeline ranks that hold the stage."""
    matrices = stage_matrices(scenario, stage)
    ranks = {False: derived.sharing_ranks(scenario) * holders, True: derived.expert_sharing_ranks(scenario) * holders}
    dense, expert = (
        round(sum(each.size * count for each, count in held_by(scenario, matrices, of, is_expert=is_expert).items()))
        for is_expert, of in ranks.items()
    )
    return dense, expert
