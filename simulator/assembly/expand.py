"""schedule × stage costs → one graph of operators. Templates are built once an action shape and repeated with numpy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from simulator.assembly.chunks import (
    COMM,
    COMPUTE,
    DP,
    NO_TRANSFERS,
    NUM_STREAMS,
    DrawKind,
    Segment,
    StageCost,
    Transfers,
)
from simulator.assembly.collectives import NO_COLLECTIVES, ActionCollectives, StageCollectives
from simulator.assembly.joint import Meetings, meeting_edges, meetings, sent_before, stream_chain
from simulator.assembly.pair import build_template
from simulator.assembly.step_graph import KINDS, ActionSpan, StepGraph
from simulator.assembly.tail import TailCosts, append_tail
from simulator.assembly.template import INPUT_B, INPUT_BOTH, INPUT_F, Template
from simulator.engine.dag import StepDag
from simulator.schedule.action import Action, Kind, Schedule
from simulator.schedule.order import OrderedActions, executable_order

DRAW_OFFSET: Mapping[DrawKind, int] = {"rank": 0, "arriving": 1, "leaving": 2}
ROWS_PER_UNIT = len(DRAW_OFFSET)
"""Draw rows of one MoE unit and micro-batch: load of the lane's experts, of what a dispatch brings it, of the fullest sender of
a combine."""

Ints = NDArray[np.int64]


@dataclass
class ClassTable:
    """Distinct operator classes: label and segment → row."""

    rows: dict[tuple[str, int], int] = field(default_factory=dict)
    segments: list[Segment] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)

    def row(self, label: str, segment: Segment) -> int:
        """The row of this class, appended if new. One segment object under one label shares a row."""
        key = (label, id(segment))
        if key not in self.rows:
            self.rows[key] = len(self.segments)
            self.segments.append(segment)
            self.labels.append(label)
        return self.rows[key]


@dataclass(frozen=True, eq=False)
class Shape:
    """A template as arrays."""

    template: Template
    op_class: Ints
    stream: Ints
    edges: Ints
    draw_base: Ints
    draw_half: Ints
    is_join: NDArray[np.bool_]
    needs: tuple[Ints, Ints]
    first_on_stream: Ints
    last_on_stream: Ints
    ends: Ints


@dataclass(frozen=True)
class PricedStep:
    """All that a schedule's actions and the step's end take.

    stages: in forward order; tail: the end of the step. pair_overlap, wait_at_boundary: as in pair.build_template.
    collectives: of every stage in its actions; without them nothing is gathered or reduced there.
    hops[r]: a transfer from pipeline rank r to the next, or back; the last one round to rank 0. joint: a transfer begins when
    its sender and its receiver have both ended a chunk, and both wait for it (not with overlapped pairs).
    """

    stages: Sequence[StageCost]
    tail: TailCosts
    pair_overlap: bool
    wait_at_boundary: bool
    hops: Sequence[Segment]
    collectives: Sequence[StageCollectives] = ()
    joint: bool = False
    prices: object = None
    """What tail, collectives and hops were priced with, for whoever prices the step again."""


@dataclass(frozen=True, eq=False)
class Form:
    """What a graph was made of: its prices, the shapes of its actions and what the step's end hangs on."""

    priced: PricedStep
    ordered: OrderedActions
    shapes: Sequence[Shape]
    shape_of: Ints
    wait_at_boundary: bool
    joint: bool
    joined_class: Ints
    last_ops: Mapping[tuple[int, int], int]
    last_collectives: Sequence[int]
    tail: tuple[Ints, Ints, NDArray[np.bool_], Ints]


def expand(schedule: Schedule, priced: PricedStep) -> StepGraph:
    """The step's graph. Raises InconsistentSimulation if the ranks' orders wait for each other."""
    wait_at_boundary = priced.wait_at_boundary and not priced.joint
    ordered = executable_order(schedule, joint=priced.joint)
    actions, ranks = ordered.actions, ordered.ranks
    met = meetings(ordered) if priced.joint else None
    draw_units, table = _draw_units(priced.stages), ClassTable()
    shapes, shape_of = shapes_of(schedule, ordered, priced, table, wait_at_boundary)
    sizes = np.array([len(shape.op_class) for shape in shapes], dtype=np.int64)[shape_of]
    base = np.concatenate(([0], np.cumsum(sizes if met is None else sizes + met.counts(len(actions)))))
    inputs = _inputs(ordered, shapes, shape_of, base)
    joined = np.empty(0, dtype=np.int64) if met is None else base[met.after] + sizes[met.after] + met.place
    if met is not None:
        inputs[np.where(met.is_forward, 0, 1), met.receiver] = joined
    num_load_rows = len(draw_units) * schedule.num_micro_batches * ROWS_PER_UNIT
    arrays = _instantiate(ordered, shapes, shape_of, base, inputs, num_load_rows)
    stream_edges = _stream_edges(ranks, shapes, shape_of, base, schedule.num_ranks, wait_at_boundary)
    spans = _spans(actions, ranks, shapes, shape_of, base, inputs, pairs_start_early=not wait_at_boundary)
    prefetched = _prefetch_edges(ranks, shapes, shape_of, base, schedule.num_ranks)
    edges = np.concatenate((arrays.edges, stream_edges, prefetched), axis=1)
    joined_class = joined_classes(schedule, ordered, met, table, priced.hops)
    if met is not None:
        _place_joined(ordered, met, joined, arrays, joined_class)
        first = base[:-1] + np.array([shape.first_on_stream[COMPUTE] for shape in shapes])[shape_of]
        joins = meeting_edges(met, ordered, joined, spans.ends, first)
        edges = np.concatenate((edges, joins, stream_chain(arrays.resource)), axis=1)
        waited = np.concatenate((spans.inputs, sent_before(met, ordered, joined).T), axis=1)
        spans = replace(spans, inputs=waited, joint_sends=np.stack((joined, met.sender)))
    last_ops = {(rank, stage): int(spans.ends[i, 0]) for i, rank, stage in ordered.last_weights()}
    last_collectives = _last_collectives(ranks, shapes, shape_of, base, schedule.num_ranks)
    tail_part = append_tail(priced.tail, schedule, table.row, int(base[-1]), last_ops, last_collectives)
    dag = _dag(arrays, edges, tail_part, table, schedule.num_ranks, num_load_rows)
    return StepGraph(
        dag=dag, classes=tuple(table.segments), labels=tuple(table.labels), spans=spans, actions=actions,
        draw_units=tuple(draw_units), num_micro_batches=schedule.num_micro_batches, tail_first=int(base[-1]),
        num_ranks=schedule.num_ranks, unit_ranks=_unit_ranks(schedule, tuple(draw_units)),
        form=Form(
            priced, ordered, shapes, shape_of, wait_at_boundary, priced.joint, joined_class, last_ops, last_collectives,
            tail_part,
        ),
    )  # fmt: skip


def _draw_units(stages: Sequence[StageCost]) -> dict[tuple[int, int], int]:
    """(stage, unit index) of the MoE units → their number."""
    units = ((stage.stage, idx) for stage in stages for idx, unit in enumerate(stage.units) if unit.is_moe)
    return {unit: row for row, unit in enumerate(units)}


def shapes_of(
    schedule: Schedule, ordered: OrderedActions, priced: PricedStep, table: ClassTable, wait_at_boundary: bool
) -> tuple[list[Shape], Ints]:
    """The distinct templates of a priced step, and the one of each action."""
    units, micro_batches = _draw_units(priced.stages), schedule.num_micro_batches
    parts, shape_of = parts_of(schedule, ordered, priced)
    shapes = []
    for part in parts:
        template = build_template(
            *part[:3], pair_overlap=priced.pair_overlap, wait_at_boundary=wait_at_boundary, sent=part[3],
            collectives=part[4],
        )  # fmt: skip
        halves = {"F": part[1].stage, "B": (part[2] or part[1]).stage}
        shapes.append(_shape(template, table, units, halves, micro_batches))
    return shapes, shape_of


Part = tuple[Kind, StageCost, StageCost | None, Transfers, ActionCollectives]
"""What the operators of an action come from: its kind, its stage (of an FB, the forward half's), the stage of an FB's backward
half, what it sends to other ranks, what data parallelism gathers and reduces in it.
"""


def parts_of(schedule: Schedule, ordered: OrderedActions, priced: PricedStep) -> tuple[list[Part], Ints]:
    """The distinct actions of a priced step, and the one that each is like."""
    stages = priced.stages
    planned = _collectives(ordered, priced.collectives or [StageCollectives()] * len(stages))
    index: dict[tuple[object, ...], int] = {}
    parts: list[Part] = []
    like = np.empty(len(ordered.groups), dtype=np.int64)
    for i, group in enumerate(ordered.groups):
        action, (is_first, is_last, collectives) = group.example, planned[i]
        sent = NO_TRANSFERS if priced.joint else _sent(schedule, action, priced.hops)
        key = (action.kind, action.stage, action.b_stage, is_first, is_last, id(sent.output), id(sent.gradient))
        if key not in index:
            index[key] = len(parts)
            b_stage = stages[action.b_stage] if action.b_stage is not None else None
            parts.append((action.kind, stages[action.stage], b_stage, sent, collectives))
        like[i] = index[key]
    return parts, like[ordered.group_of]


def _unit_ranks(schedule: Schedule, draw_units: Sequence[tuple[int, int]]) -> Ints:
    """(MoE units, micro-batches): the pipeline rank on which each runs."""
    ranks = [[schedule.rank_of(stage, m) for m in range(schedule.num_micro_batches)] for stage, _ in draw_units]
    return np.array(ranks, dtype=np.int64).reshape(len(draw_units), schedule.num_micro_batches)


def _collectives(
    ordered: OrderedActions, stages: Sequence[StageCollectives]
) -> list[tuple[bool, bool, ActionCollectives]]:
    """Of every group: whether it is the first forward and the last backward of a stage on its rank where these differ from
    the others, and what it gathers and reduces.
    """
    found = []
    for group in ordered.groups:
        is_first = is_last = False
        forward = backward = NO_COLLECTIVES
        for kind, stage, _ in group.example.halves():
            own = stages[stage]
            if kind == "F":
                is_first = group.first == stage and own.first_forward is not own.forward
                forward = own.first_forward if is_first else own.forward
            elif kind in ("B", "W"):
                is_last = group.last == stage and own.last_backward is not own.backward
                backward = own.last_backward if is_last else own.backward
        found.append((is_first, is_last, ActionCollectives(forward, backward)))
    return found


def _shape(
    template: Template, table: ClassTable, draw_units: Mapping[tuple[int, int], int], halves: Mapping[str, int],
    num_micro_batches: int,
) -> Shape:  # fmt: skip
    ops = template.ops
    stream = np.array([op.stream for op in ops], dtype=np.int64)
    first, last = np.full(NUM_STREAMS, -1, dtype=np.int64), np.full(NUM_STREAMS, -1, dtype=np.int64)
    ends = np.full(2, -1, dtype=np.int64)
    edges: list[tuple[int, int]] = []
    draw_base = np.full(len(ops), -1, dtype=np.int64)
    for i, op in enumerate(ops):
        preds = set(op.preds)
        if last[op.stream] >= 0:
            preds.add(int(last[op.stream]))
        else:
            first[op.stream] = i
        last[op.stream] = i
        if not op.is_send and op.stream != DP:
            ends[op.stream] = i
        edges += [(i, pred) for pred in sorted(preds)]
        if op.draw != "none":
            unit = draw_units[halves[op.half], op.unit]
            draw_base[i] = unit * num_micro_batches * ROWS_PER_UNIT + DRAW_OFFSET[op.draw]
    return Shape(
        template=template,
        op_class=np.array([table.row(op.label, op.segment) for op in ops], dtype=np.int64),
        stream=stream,
        edges=np.array(edges, dtype=np.int64).reshape(-1, 2).T,
        draw_base=draw_base,
        draw_half=np.array([op.half == "B" for op in ops], dtype=np.int64),
        is_join=np.array([op.is_join for op in ops], dtype=bool),
        needs=(
            np.array([i for i, op in enumerate(ops) if op.needs in (INPUT_F, INPUT_BOTH)], dtype=np.int64),
            np.array([i for i, op in enumerate(ops) if op.needs in (INPUT_B, INPUT_BOTH)], dtype=np.int64),
        ),
        first_on_stream=first, last_on_stream=last, ends=ends,
    )  # fmt: skip


def _hop(schedule: Schedule, hops: Sequence[Segment], stage: int, other: int, micro_batch: int) -> Segment | None:
    """The transfer from a stage of a micro-batch to a neighbouring one, None where nothing goes to another rank."""
    if not 0 <= other < schedule.num_stages:
        return None
    rank, partner = schedule.rank_of(stage, micro_batch), schedule.rank_of(other, micro_batch)
    return None if partner == rank else hops[rank if (rank + 1) % schedule.num_ranks == partner else partner]


def _sent(schedule: Schedule, action: Action, hops: Sequence[Segment]) -> Transfers:
    """What an action sends to other ranks."""
    moved: dict[bool, Segment | None] = {}
    for kind, stage, micro_batch in action.halves():
        if kind != "W":
            moved[kind == "F"] = _hop(schedule, hops, stage, stage + 1 if kind == "F" else stage - 1, micro_batch)
    return Transfers(moved.get(True), moved.get(False))


def _inputs(ordered: OrderedActions, shapes: Sequence[Shape], shape_of: Ints, base: Ints) -> Ints:
    """(2, actions): the operator that the forward's and the backward's pipeline input comes from, -1 for none.

    That is the transfer behind the source action, or its own last operator where both are on one rank.
    """
    templates = [shape.template for shape in shapes]
    outs = np.array([[max(t.out_f, default=-1), max(t.out_b, default=-1)] for t in templates], dtype=np.int64)
    sends = np.array([[t.send_f, t.send_b] for t in templates], dtype=np.int64)
    source, half = ordered.sources, ordered.from_backward.astype(np.int64)
    stays = ordered.ranks[source] == ordered.ranks
    local = np.where(stays, outs[shape_of[source], half], sends[shape_of[source], half])
    return np.where(source >= 0, base[source] + local, -1)


def _place_joined(ordered: OrderedActions, met: Meetings, joined: Ints, arrays: _Arrays, joined_class: Ints) -> None:
    """Writes the joint transfers, the operators `joined`, into the arrays."""
    arrays.resource[joined] = ordered.ranks[met.sender] * NUM_STREAMS + COMM
    arrays.draw_row[joined] = -1
    arrays.is_join[joined] = False
    arrays.op_class[joined] = joined_class


def joined_classes(
    schedule: Schedule, ordered: OrderedActions, met: Meetings | None, table: ClassTable, hops: Sequence[Segment]
) -> Ints:
    """The class of each joint transfer."""
    if met is None:
        return np.empty(0, dtype=np.int64)
    found: list[int] = []
    rows: dict[tuple[int, bool], int] = {}
    for receiver, is_forward in zip(met.receiver.tolist(), met.is_forward.tolist(), strict=True):
        half = "F" if is_forward else "B"
        to, m = next((s, m) for kind, s, m in ordered.actions[receiver].halves() if (kind == "F") == is_forward)
        stage = to - 1 if is_forward else to + 1
        if (stage, is_forward) not in rows:
            segment = _hop(schedule, hops, stage, to, m)
            assert segment is not None
            rows[stage, is_forward] = table.row(f"stage_{stage}.send_{half.lower()}", segment)
        found.append(rows[stage, is_forward])
    return np.array(found, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class _Arrays:
    op_class: Ints
    resource: Ints
    draw_row: Ints
    is_join: NDArray[np.bool_]
    edges: Ints


def _instantiate(
    ordered: OrderedActions, shapes: Sequence[Shape], shape_of: Ints, base: Ints, inputs: Ints, num_load_rows: int
) -> _Arrays:
    """All actions' operators and their edges inside the action and to the pipeline inputs."""
    total, ranks, micro = int(base[-1]), ordered.ranks, ordered.micro_batches
    op_class, resource, draw_row = (np.empty(total, dtype=np.int64) for _ in range(3))
    is_join = np.empty(total, dtype=bool)
    edges: list[Ints] = []
    for s, shape in enumerate(shapes):
        members = np.flatnonzero(shape_of == s)
        start = base[members][:, None]
        where = start + np.arange(len(shape.op_class))
        op_class[where] = shape.op_class
        is_join[where] = shape.is_join
        resource[where] = ranks[members][:, None] * NUM_STREAMS + shape.stream
        row = shape.draw_base + ROWS_PER_UNIT * micro[:, members].T[:, shape.draw_half]
        speed_row = np.where(shape.stream == COMPUTE, num_load_rows + ranks[members][:, None], -1)
        draw_row[where] = np.where(shape.draw_base >= 0, row, speed_row)
        edges.append((start[None] + shape.edges[:, None, :]).reshape(2, -1))
        for half in (0, 1):
            needs, source = shape.needs[half], inputs[half, members]
            present = np.flatnonzero(source >= 0)
            target = start[present] + needs
            edges.append(np.stack((target.ravel(), np.repeat(source[present], len(needs)))))
    return _Arrays(op_class, resource, draw_row, is_join, np.concatenate(edges, axis=1))


def _stream_edges(
    ranks: Ints, shapes: Sequence[Shape], shape_of: Ints, base: Ints, num_ranks: int, wait_at_boundary: bool
) -> Ints:
    """From the first operator of an action on a stream to the last one before it there.

    wait_at_boundary: its first compute also waits for the last transfer before it.
    """
    first = np.stack([shape.first_on_stream for shape in shapes])[shape_of]
    last = np.stack([shape.last_on_stream for shape in shapes])[shape_of]
    edges = []
    for rank in range(num_ranks):
        members = np.flatnonzero(ranks == rank)
        for stream in range(NUM_STREAMS):
            used = members[first[members, stream] >= 0]
            edges.append(
                np.stack((base[used[1:]] + first[used[1:], stream], base[used[:-1]] + last[used[:-1], stream]))
            )
        if wait_at_boundary:
            sends = np.array([shapes[s].last_on_stream[COMM] for s in shape_of[members]])
            sent = np.flatnonzero(sends[:-1] >= 0)
            target = members[sent + 1]
            edges.append(np.stack((base[target] + first[target, COMPUTE], base[members[sent]] + sends[sent])))
    return np.concatenate(edges, axis=1)


def _prefetch_edges(ranks: Ints, shapes: Sequence[Shape], shape_of: Ints, base: Ints, num_ranks: int) -> Ints:
    """From the gathers with which an action begins to the compute of the rank's action before that they wait for, and from
    its first compute to the reduction that nothing runs beside.
    """
    templates = [shape.template for shape in shapes]
    fields = np.array([(t.early_gather, t.next_gather, t.before_last, t.closing) for t in templates])
    if (fields[:, [0, 1, 3]] < 0).all():
        return np.empty((2, 0), dtype=np.int64)
    first, computed = (
        np.array([ends[COMPUTE] for ends in found], dtype=np.int64)
        for found in ([s.first_on_stream for s in shapes], [s.last_on_stream for s in shapes])
    )
    edges = []
    for rank in range(num_ranks):
        members = np.flatnonzero(ranks == rank)
        early, following, before_last, closing = np.where(
            fields[shape_of[members]] >= 0, fields[shape_of[members]] + base[members][:, None], -1
        ).T
        start, last = (base[members] + found[shape_of[members]] for found in (first, computed))
        before_last = np.where(before_last >= 0, before_last, np.concatenate(([-1], last[:-1])))
        for target, source in ((early, before_last), (following, last), (start, closing)):
            edge = np.stack((target[1:], source[:-1]))
            edges.append(edge[:, (edge >= 0).all(axis=0)])
    return np.concatenate(edges, axis=1)


def _last_collectives(ranks: Ints, shapes: Sequence[Shape], shape_of: Ints, base: Ints, num_ranks: int) -> list[int]:
    """The last data-parallel collective of each rank's actions, -1 where there is none."""
    last = np.array([shape.last_on_stream[DP] for shape in shapes], dtype=np.int64)[shape_of]
    found = np.where(last >= 0, base[:-1] + last, -1)
    return [int(found[ranks == rank].max(initial=-1)) for rank in range(num_ranks)]


def _spans(
    actions: Sequence[Action], ranks: Ints, shapes: Sequence[Shape], shape_of: Ints, base: Ints, inputs: Ints, *,
    pairs_start_early: bool,
) -> ActionSpan:  # fmt: skip
    ends = np.stack([shape.ends for shape in shapes])[shape_of]
    return ActionSpan(
        rank=ranks,
        kind=np.array([KINDS.index(action.kind) for action in actions], dtype=np.int64),
        first=base[:-1],
        last=base[1:],
        ends=np.where(ends >= 0, ends + base[:-1, None], -1),
        inputs=inputs.T.copy(),
        pairs_start_early=pairs_start_early,
    )


def _dag(
    arrays: _Arrays, edges: Ints, tail: tuple[Ints, Ints, NDArray[np.bool_], Ints], table: ClassTable, num_ranks: int,
    num_load_rows: int,
) -> StepDag:  # fmt: skip
    tail_class, tail_resource, tail_join, tail_edges = tail
    rank, stream = np.divmod(tail_resource, NUM_STREAMS)
    tail_rows = np.where(stream == COMPUTE, num_load_rows + rank, -1)
    op_class = np.concatenate((arrays.op_class, tail_class))
    n = len(op_class)
    target, source = np.concatenate((edges, tail_edges), axis=1)
    order = np.argsort(target, kind="stable")
    counts = np.bincount(target, minlength=n)
    return StepDag(
        op_class=op_class.astype(np.int32),
        resource=np.concatenate((arrays.resource, tail_resource)).astype(np.int32),
        pred_ptr=np.concatenate(([0], np.cumsum(counts))).astype(np.int32),
        pred=source[order].astype(np.int32),
        draw_row=np.concatenate((arrays.draw_row, tail_rows)).astype(np.int32),
        is_join=np.concatenate((arrays.is_join, tail_join)),
        num_resources=num_ranks * NUM_STREAMS,
        num_classes=len(table.segments),
        num_draw_rows=num_load_rows + num_ranks,
    )
