"""What data parallelism gathers and reduces, where in a step, and its seconds: ZeRO 0 to 3, FSDP, HSDP.

    ZeRO      parameters                            gradients
    0, 1      whole; 1: updated shards are gathered  all-reduced (0) or reduce-scattered (1), once a step
    2         as 1                                  reduce-scattered behind each backward, shards are summed
    3         gathered by unit in each pass         as 2, by unit

With shard groups (HSDP) the shards' gradients are then all-reduced over the groups, behind each reduction or behind the last of
a step (grad_reduce.over_groups). Where gradients are reduced once a step with ZeRO 0 to 2, buckets (workload/buckets.py) are
those of the first stage, whose backward is a step's last: every other stage's gradients are one bucket, as in Megatron-LM
(core/distributed/distributed_data_parallel.py), reduced in the bubble behind its last backward; smaller ones would only
slow that backward down for all stages before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from simulator.assembly.chunks import Segment
from simulator.assembly.collectives import NO_COLLECTIVES, Bucket, PassCollectives, StageCollectives
from simulator.assembly.unit_costs import message_segment
from simulator.costs.collectives.ring import RingOp
from simulator.network.placement import GroupShape
from simulator.scenario import derived
from simulator.scenario.muon_rules import deals_whole_matrices
from simulator.scenario.scenario import Scenario
from simulator.schedule.action import Schedule
from simulator.step.messages import MessagePrices
from simulator.workload.buckets import WIRE_BYTES, bucket_parameters, buckets_of, by_unit, total
from simulator.workload.op import ParamGroup, StageWorkload, Workload
from simulator.workload.vocabulary import VocabularyCopy, vocabulary_copies, with_copies

DATA_PARALLEL = "data_parallel"

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
        return self._reduces(label, group, over_groups=True)

    def reduces_in_group(self, label: str, group: ParamGroup) -> Runs:
        """The same without the sum over the shard groups."""
        return self._reduces(label, group, over_groups=False)

    def _reduces(self, label: str, group: ParamGroup, *, over_groups: bool) -> Runs:
        width = WIRE_BYTES[self.scenario.data_parallel.grad_reduce.dtype]
        is_whole = not self.scenario.parallel.zero_stage or deals_whole_matrices(self.scenario)
        op: RingOp = "all_reduce" if is_whole else "reduce_scatter"
        found: list[tuple[str, Segment]] = []
        for name, count, ranks in self._parts(group):
            found.append(self._one(label, op, name, count * width, ranks.shard))
            if ranks.replicas.ranks > 1 and over_groups:
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
    workload, _ = with_held_copies(scenario, workload, schedule)
    planner = _Planner(scenario, holders_of(messages, schedule, scenario.parallel.zero_stage), messages)
    return tuple(_of_stage(planner, stage, at_end=len(schedule.holders(stage.stage)) > 1) for stage in workload.stages)


def with_held_copies(
    scenario: Scenario, workload: Workload, schedule: Schedule
) -> tuple[Workload, tuple[VocabularyCopy, ...]]:
    """The workload with the copies of vocabulary matrices that its stages hold under a schedule, and these."""
    model, layout = derived.padded_model(scenario), derived.layout(scenario)
    copies = vocabulary_copies(model, layout, schedule.placement, scenario.parallel.tp)
    return with_copies(workload, model, layout, copies), copies


def _of_stage(planner: _Planner, stage: StageWorkload, *, at_end: bool) -> StageCollectives:
    scenario, zero = planner.scenario, planner.scenario.parallel.zero_stage
    each, beside = derived.reduces_every_micro_batch(scenario), derived.is_grad_reduce_overlapped(scenario)
    ahead = derived.is_param_gather_overlapped(scenario) and not at_end
    limit = bucket_parameters(scenario)
    label, whole = f"stage_{stage.stage}", ParamGroup(0, stage.dense_params, stage.expert_params)
    reduces: tuple[Bucket, ...] = ()
    gathers: tuple[Bucket, ...] = ()
    earlier: tuple[Bucket, ...] | None = None
    reduces_at_end: Runs = ()
    gathers_at_end: Runs = ()
    one_bucket = zero < 3 and not each and stage.stage > 0
    if at_end or not (each or beside):
        reduces_at_end = planner.reduces(label, whole)
    else:
        ready = [whole] if one_bucket else stage.groups if zero == 3 else buckets_of(stage.groups, limit)
        buckets = [found if zero == 3 else [total(found)] for found in by_unit(ready)][::-1]
        reduces = _priced(buckets, planner.reduces, stage)
        if each and not derived.sums_groups_each(scenario):
            earlier = _priced(buckets, planner.reduces_in_group, stage)
    if zero == 3:
        gathers = _priced(by_unit(stage.groups), planner.gathers, stage)
    elif ahead:
        groups = [whole] if stage.stage else stage.groups
        gathers = _priced([[each] for each in buckets_of(groups, limit)[::-1]], planner.gathers, stage)
    else:
        gathers_at_end = planner.gathers(label, whole)
    run_ahead = None if zero < 3 else int(ahead)
    again = gathers if zero == 3 and scenario.data_parallel.reshard_after_forward else ()
    stretch = planner.messages.collective_stretch
    first = PassCollectives(gathers, ahead=run_ahead, stretch=stretch) if gathers else NO_COLLECTIVES
    last = PassCollectives(again[::-1], reduces, run_ahead, beside, stretch) if again or reduces else NO_COLLECTIVES
    return StageCollectives(
        forward=first if again else NO_COLLECTIVES,
        backward=_before_last(last, earlier if each else ()),
        first_forward=first,
        last_backward=last,
        reduces_at_end=reduces_at_end,
        gathers_at_end=gathers_at_end,
    )


def _before_last(last: PassCollectives, reduces: tuple[Bucket, ...] | None) -> PassCollectives:
    """The backward before a step's last; reduces: what it reduces, None: the same."""
    return last if reduces is None or reduces == last.reduces else replace(last, reduces=reduces)


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
