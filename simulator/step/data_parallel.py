"""What data parallelism gathers and reduces, where in a step, and its seconds: ZeRO 0 to 3, FSDP, HSDP.

    ZeRO      parameters                            gradients
    0, 1      whole; 1: updated shards are gathered  all-reduced (0) or reduce-scattered (1), once a step
    2         as 1                                  reduce-scattered behind each backward, shards are summed
    3         gathered by unit in each pass         as 2, by unit

With shard groups (HSDP) the shards' gradients are then all-reduced over the groups. A bucket of ZeRO 0 to 2 is closed when it
has reached its size, as in Megatron-LM (core/distributed/param_and_grad_buffer.py), with the routed experts' parameters in
buckets of their own; its default size is that of core/distributed/distributed_data_parallel.py, 40 million parameters or a
million a data-parallel rank, whichever is more. As there, buckets are those of the first stage, whose backward is a step's
last: every other stage's gradients are one bucket, which is reduced in the bubble behind its last backward, where smaller ones
would only slow that backward down for all stages before it. A unit of FSDP is a layer, the embedding or a head.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from hwprofiles.units import MEGA
from simulator.assembly.chunks import Segment
from simulator.assembly.collectives import NO_COLLECTIVES, Bucket, PassCollectives, StageCollectives
from simulator.assembly.unit_costs import message_segment
from simulator.costs.collectives.ring import RingOp
from simulator.network.placement import GroupShape
from simulator.scenario import derived
from simulator.scenario.scenario import Scenario
from simulator.schedule.action import Schedule
from simulator.step.messages import MessagePrices
from simulator.workload.op import ParamGroup, StageWorkload, Workload

DATA_PARALLEL = "data_parallel"
WIRE_BYTES = {"fp32": 4, "bf16": 2}
"""Bytes of a gradient or parameter on the wire by format."""
BUCKET_PARAMETERS, BUCKET_PARAMETERS_A_RANK = round(40 * MEGA), round(MEGA)
"""Megatron-LM's default size of a bucket, and what it is at least for each data-parallel rank."""

Runs = tuple[tuple[str, Segment], ...]


@dataclass(frozen=True)
class Sharers:
    """Ranks with the same parameters: those that share them, and the groups that do."""

    shard: GroupShape
    replicas: GroupShape


@dataclass(frozen=True)
class Holders:
    """Of the dense parameters of a stage, and of the same routed experts."""

    dense: Sharers
    expert: Sharers


def holders_of(messages: MessagePrices, schedule: Schedule, zero_stage: int) -> Holders:
    """Two pipeline ranks hold a stage where each rank holds two of as many stages as ranks (DualPipe)."""
    place = messages.placement
    if len(schedule.placement[0]) > 1 and schedule.num_stages == schedule.num_ranks:
        return Holders(_unsplit(place.dense_dp_mirror), _unsplit(place.expert_dp_mirror))
    if place.sharing is not None and zero_stage > 0:
        return Holders(
            Sharers(place.sharing.dense_shard, place.sharing.dense_replicas),
            Sharers(place.sharing.expert_shard, place.sharing.expert_replicas),
        )
    return Holders(_unsplit(place.dense_dp), _unsplit(place.expert_dp))


def _unsplit(group: GroupShape) -> Sharers:
    return Sharers(group, GroupShape(1, 1, 1))


@dataclass(frozen=True)
class _Planner:
    """Seconds of a stage's collectives."""

    scenario: Scenario
    holders: Holders
    messages: MessagePrices

    def reduces(self, label: str, group: ParamGroup) -> Runs:
        """Gradients of a group of parameters: to the shards (ZeRO 0: to all), then over the shard groups."""
        width = WIRE_BYTES[self.scenario.data_parallel.grad_reduce.dtype]
        op: RingOp = "reduce_scatter" if self.scenario.parallel.zero_stage else "all_reduce"
        found: list[tuple[str, Segment]] = []
        for name, count, ranks in self._parts(group):
            found.append(self._one(label, op, name, count * width, ranks.shard))
            if ranks.replicas.ranks > 1:
                shard = -(-count // ranks.shard.ranks)
                found.append(self._one(label, "all_reduce", name, shard * width, ranks.replicas))
        return tuple(found)

    def gathers(self, label: str, group: ParamGroup) -> Runs:
        """Parameters of a group from the ranks that share them."""
        width = WIRE_BYTES[self.scenario.data_parallel.param_gather.dtype]
        if not self.scenario.parallel.zero_stage:
            return ()
        return tuple(
            self._one(label, "all_gather", name, count * width, ranks.shard)
            for name, count, ranks in self._parts(group)
        )

    def _parts(self, group: ParamGroup) -> Iterable[tuple[str, int, Sharers]]:
        pairs = (("dense", group.dense, self.holders.dense), ("expert", group.expert, self.holders.expert))
        return (pair for pair in pairs if pair[1] and max(pair[2].shard.ranks, pair[2].replicas.ranks) > 1)

    def _one(self, label: str, op: RingOp, name: str, num_bytes: int, group: GroupShape) -> tuple[str, Segment]:
        cost = self.messages.ring(op, num_bytes, group)
        return f"{label}.{op}_{name}", message_segment(f"{op}_{name}", cost, DATA_PARALLEL)


def plan_collectives(
    scenario: Scenario, workload: Workload, schedule: Schedule, messages: MessagePrices
) -> tuple[StageCollectives, ...]:
    """What every stage gathers and reduces. A stage on two ranks (DualPipe) does so at its end, when both are there."""
    if not scenario.mechanisms.zero_collectives:
        return tuple(StageCollectives() for _ in workload.stages)
    planner = _Planner(scenario, holders_of(messages, schedule, scenario.parallel.zero_stage), messages)
    return tuple(_of_stage(planner, stage, at_end=len(schedule.holders(stage.stage)) > 1) for stage in workload.stages)


def _of_stage(planner: _Planner, stage: StageWorkload, *, at_end: bool) -> StageCollectives:
    scenario, zero = planner.scenario, planner.scenario.parallel.zero_stage
    each, beside = derived.reduces_every_micro_batch(scenario), derived.is_grad_reduce_overlapped(scenario)
    ahead = derived.is_param_gather_overlapped(scenario) and not at_end
    label, whole = f"stage_{stage.stage}", ParamGroup(0, stage.dense_params, stage.expert_params)
    reduces: tuple[Bucket, ...] = ()
    gathers: tuple[Bucket, ...] = ()
    reduces_at_end: Runs = ()
    gathers_at_end: Runs = ()
    if at_end or not (each or beside) or (zero < 3 and not each and stage.stage):
        reduces_at_end = planner.reduces(label, whole)
    else:
        buckets = by_unit(stage.groups)[::-1] if zero == 3 else buckets_of(scenario, stage.groups)
        reduces = _priced(buckets, planner.reduces, stage)
    if zero == 3:
        gathers = _priced(by_unit(stage.groups), planner.gathers, stage)
    elif ahead:
        gathers = _priced(
            buckets_of(scenario, stage.groups if not stage.stage else [whole])[::-1], planner.gathers, stage
        )
    else:
        gathers_at_end = planner.gathers(label, whole)
    run_ahead = None if zero < 3 else int(ahead)
    again = gathers if zero == 3 and scenario.data_parallel.reshard_after_forward else ()
    first = PassCollectives(gathers, ahead=run_ahead) if gathers else NO_COLLECTIVES
    last = PassCollectives(again[::-1], reduces, run_ahead, beside) if again or reduces else NO_COLLECTIVES
    return StageCollectives(
        forward=first if again else NO_COLLECTIVES,
        backward=last if each or not reduces else replace(last, reduces=()),
        first_forward=first,
        last_backward=last,
        reduces_at_end=reduces_at_end,
        gathers_at_end=gathers_at_end,
    )


def _priced(
    buckets: Sequence[Sequence[ParamGroup]], price: Callable[[str, ParamGroup], Runs], stage: StageWorkload
) -> tuple[Bucket, ...]:
    """Buckets of groups with their collectives; a bucket belongs to its first unit in forward order."""
    return tuple(
        Bucket(
            min(group.unit for group in bucket),
            tuple(
                run for group in bucket for run in price(f"stage_{stage.stage}.{stage.units[group.unit].name}", group)
            ),
        )
        for bucket in buckets
    )


def by_unit(groups: Sequence[ParamGroup]) -> list[list[ParamGroup]]:
    """The groups of every unit, in forward order."""
    return [list(found) for _, found in groupby(groups, key=lambda group: group.unit)]


def buckets_of(scenario: Scenario, groups: Sequence[ParamGroup]) -> list[list[ParamGroup]]:
    """Groups that are reduced together, in the order of a backward: each bucket is closed when it has reached its size."""
    limit = bucket_parameters(scenario)
    buckets: list[list[ParamGroup]] = []
    open_dense: list[ParamGroup] = []
    open_expert: list[ParamGroup] = []
    for group in reversed(groups):
        for is_open, part in (
            (open_expert, ParamGroup(group.unit, 0, group.expert)), (open_dense, ParamGroup(group.unit, group.dense))
        ):  # fmt: skip
            if part.dense + part.expert:
                is_open.append(part)
            if is_open and sum(each.dense + each.expert for each in is_open) >= limit:
                buckets.append([_sum(is_open)])
                is_open.clear()
    return buckets + [[_sum(rest)] for rest in (open_expert, open_dense) if rest]


def bucket_parameters(scenario: Scenario) -> int:
    """Parameters that close a bucket."""
    plan = scenario.data_parallel
    if plan.bucket_bytes is not None:
        return -(-plan.bucket_bytes // WIRE_BYTES[plan.grad_reduce.dtype])
    if derived.reduces_every_micro_batch(scenario):
        return 1
    return max(BUCKET_PARAMETERS, BUCKET_PARAMETERS_A_RANK * derived.dp(scenario))


def _sum(groups: Sequence[ParamGroup]) -> ParamGroup:
    return ParamGroup(
        min(group.unit for group in groups),
        sum(group.dense for group in groups),
        sum(group.expert for group in groups),
    )
