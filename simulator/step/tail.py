"""Seconds of a step's end: gradient reduction, norm, optimizer and parameter gather of every stage (ZeRO-1)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from simulator.assembly.chunks import Segment
from simulator.assembly.tail import TailCosts
from simulator.assembly.unit_costs import Cost, add_segments, message_segment
from simulator.costs.collectives.ring import RingOp
from simulator.network.placement import GroupShape, Placement
from simulator.scenario import derived
from simulator.scenario.scenario import Scenario
from simulator.schedule.action import Schedule
from simulator.step.messages import MessagePrices
from simulator.step.pricing import KernelPrices
from simulator.workload.counting import moved
from simulator.workload.op import Op, StageWorkload, Workload

DATA_PARALLEL, OPTIMIZER = "data_parallel", "optimizer"
WIRE_BYTES = {"fp32": 4, "bf16": 2}
"""Bytes of a gradient or parameter on the wire by format."""
PARAMETER_BYTES = WIRE_BYTES["bf16"]
"""Updated weights are gathered in BF16, after the optimizer."""
MOMENT_BYTES = {"adamw-bf16-moments": 2, "adamw-fp32-moments": 4}
"""Bytes of one of AdamW's two moments of a parameter."""


@dataclass(frozen=True)
class _Holders:
    """Ranks that hold the same dense parameters of a stage, and the same routed experts."""

    dense: GroupShape
    expert: GroupShape


def tail_costs(
    scenario: Scenario, workload: Workload, schedule: Schedule, kernels: KernelPrices, messages: MessagePrices
) -> TailCosts:
    """Costs of the end of a step under a schedule, which says how many pipeline ranks hold a stage."""
    holders = _holders(messages.placement, schedule)
    stages, gradient = workload.stages, WIRE_BYTES[scenario.data_parallel.grad_reduce.dtype]

    def collectives(op: RingOp, bytes_per_param: int) -> list[list[tuple[str, Segment]]]:
        if not scenario.mechanisms.zero_collectives:
            return [[] for _ in stages]
        return [list(_collectives(op, stage, bytes_per_param, holders, messages)) for stage in stages]

    optimizer = [add_segments(_optimizer(scenario, stage, holders, kernels)) for stage in stages]
    return TailCosts(
        reduce=collectives("reduce_scatter", gradient),
        gather=collectives("all_gather", PARAMETER_BYTES),
        norm=message_segment("grad_norm", messages.norm(), OPTIMIZER),
        optimizer=[add_segments(optimizer[stage] for stage in held) for held in schedule.placement],
        overlap_reduce=derived.is_grad_reduce_overlapped(scenario),
    )


def _holders(placement: Placement, schedule: Schedule) -> _Holders:
    """Two pipeline ranks hold a stage where each rank holds two of as many stages as ranks (DualPipe)."""
    if len(schedule.placement[0]) > 1 and schedule.num_stages == schedule.num_ranks:
        return _Holders(placement.dense_dp_mirror, placement.expert_dp_mirror)
    return _Holders(placement.dense_dp, placement.expert_dp)


def _collectives(
    op: RingOp, stage: StageWorkload, bytes_per_param: int, holders: _Holders, messages: MessagePrices
) -> Iterator[tuple[str, Segment]]:
    for name, params, group in (
        ("dense", stage.dense_params, holders.dense),
        ("expert", stage.expert_params, holders.expert),
    ):
        if params:
            label = f"{op}_{name}"
            yield label, message_segment(label, messages.ring(op, params * bytes_per_param, group), DATA_PARALLEL)


def _optimizer(scenario: Scenario, stage: StageWorkload, holders: _Holders, kernels: KernelPrices) -> Iterator[Segment]:
    """AdamW on the shard (gradient read; master and two moments read and written; weight written), then the held weights
    quantised once a step where the GEMMs take FP8.
    """
    for op in _optimizer_ops(scenario, stage, holders):
        if op.shape.bytes:
            yield _segment(kernels.unshared_seconds(op), OPTIMIZER)


def _optimizer_ops(scenario: Scenario, stage: StageWorkload, holders: _Holders) -> Iterator[Op]:
    shard = -(-stage.dense_params // holders.dense.ranks) + -(-stage.expert_params // holders.expert.ranks)
    state = 4 + 2 * MOMENT_BYTES[scenario.training.optimizer]
    yield moved("adamw", "adamw", "W", shard * (4 + state), shard * (state + 2))
    if derived.recipe(scenario).is_fp8:
        held = stage.dense_params + stage.expert_params
        yield moved("weight_quantise", "quantise", "W", 2 * held, held)


def _segment(cost: Cost, category: str) -> Segment:
    return Segment(cost.seconds, cost.low, cost.high, {category: cost.seconds}, {cost.basis: cost.seconds})
