"""schedule × stage costs → one graph of operators. Templates are built once an action shape and repeated with numpy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from simulator.assembly.chunks import COMM, COMPUTE, DP, HOST, NUM_STREAMS, Segment
from simulator.assembly.copies import copy_edges
from simulator.assembly.exchanges import exchange_edges, joint_exchange_edges
from simulator.assembly.joint import Meetings, meeting_edges, meetings, sent_before, stream_chain
from simulator.assembly.shapes import (
    CORE_DRAWS,
    ROWS_PER_UNIT,
    ClassTable,
    Ints,
    PricedStep,
    Shape,
    draw_units_of,
    hop_between,
    shapes_of,
)
from simulator.assembly.step_graph import KINDS, ActionSpan, StepGraph
from simulator.assembly.tail import append_tail
from simulator.engine.dag import StepDag
from simulator.schedule.action import Action, Schedule
from simulator.schedule.order import OrderedActions, executable_order


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
    last_issues: Sequence[int]
    tail: tuple[Ints, Ints, NDArray[np.bool_], Ints]


def expand(schedule: Schedule, priced: PricedStep) -> StepGraph:
    """The step's graph. Raises InconsistentSimulation if the ranks' orders wait for each other."""
    wait_at_boundary = priced.wait_at_boundary and not priced.joint
    ordered = executable_order(schedule, joint=priced.joint)
    actions, ranks = ordered.actions, ordered.ranks
    met = meetings(ordered) if priced.joint else None
    draw_units, table = draw_units_of(priced.stages), ClassTable()
    shapes, shape_of = shapes_of(schedule, ordered, priced, table, wait_at_boundary)
    sizes = np.array([len(shape.op_class) for shape in shapes], dtype=np.int64)[shape_of]
    base = np.concatenate(([0], np.cumsum(sizes if met is None else sizes + met.counts(len(actions)))))
    inputs = _inputs(ordered, shapes, shape_of, base)
    joined = np.empty(0, dtype=np.int64) if met is None else base[met.after] + sizes[met.after] + met.place
    if met is not None:
        inputs[np.where(met.is_forward, 0, 1), met.receiver] = joined
    rows = _rows(schedule, shapes, len(draw_units))
    arrays = _instantiate(ordered, shapes, shape_of, base, inputs, rows)
    stream_edges = _stream_edges(ranks, shapes, shape_of, base, schedule.num_ranks, wait_at_boundary)
    waits_for_both = wait_at_boundary or priced.pairing.by_layer
    spans = _spans(actions, ranks, shapes, shape_of, base, inputs, pairs_start_early=not waits_for_both)
    prefetched = _prefetch_edges(ranks, shapes, shape_of, base, schedule.num_ranks)
    edges = np.concatenate((arrays.edges, stream_edges, prefetched), axis=1)
    if any(stage.copies.out for stage in priced.stages):
        edges = np.concatenate((edges, copy_edges(ordered, shapes, shape_of, base)), axis=1)
    joined_class = joined_classes(schedule, ordered, met, table, priced.hops)
    if priced.host is not None and priced.host.waits_at_exchanges:
        waited = [exchange_edges(ordered, shapes, shape_of, base, inputs)]
        if met is not None:
            waited.append(joint_exchange_edges(met, ordered, shapes, shape_of, base, joined))
        edges = np.concatenate((edges, *waited), axis=1)
    if met is not None:
        _place_joined(ordered, met, joined, arrays, joined_class)
        first = base[:-1] + np.array([shape.first_on_stream[COMPUTE] for shape in shapes])[shape_of]
        joins = meeting_edges(met, ordered, joined, spans.ends, first)
        edges = np.concatenate((edges, joins, stream_chain(arrays.resource)), axis=1)
        awaited = np.concatenate((spans.inputs, sent_before(met, ordered, joined).T), axis=1)
        spans = replace(spans, inputs=awaited, joint_sends=np.stack((joined, met.sender)))
    last_ops = {(rank, stage): int(spans.ends[i, 0]) for i, rank, stage in ordered.last_weights()}
    last_collectives, last_issues = (
        _last_on(stream, ranks, shapes, shape_of, base, schedule.num_ranks) for stream in (DP, HOST)
    )
    tail_part = append_tail(priced.tail, schedule, table.row, int(base[-1]), last_ops, last_collectives, last_issues)
    dag = _dag(arrays, edges, tail_part, table, rows)
    return StepGraph(
        dag=dag, classes=tuple(table.segments), labels=tuple(table.labels), spans=spans, actions=actions,
        draw_units=tuple(draw_units), num_micro_batches=schedule.num_micro_batches, tail_first=int(base[-1]),
        num_ranks=schedule.num_ranks, num_core_rows=rows.cores, unit_ranks=_unit_ranks(schedule, tuple(draw_units)),
        has_barrier=priced.tail.has_barrier,
        form=Form(
            priced, ordered, shapes, shape_of, wait_at_boundary, priced.joint, joined_class, last_ops, last_collectives,
            last_issues, tail_part,
        ),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows of draws, in this order: loads of the MoE units, speeds of the pipeline ranks, loads of attention cores."""

    loads: int
    ranks: int
    cores: int
    micro_batches: int

    @property
    def total(self) -> int:
        return self.loads + self.ranks + self.cores

    def of_core(self, kinds: Ints, ranks: Ints, micro_batches: Ints) -> Ints:
        """The rows of cores of these kinds (places in CORE_DRAWS) on pipeline ranks; all three of one shape."""
        return self.loads + self.ranks + (kinds * self.ranks + ranks) * self.micro_batches + micro_batches


def _rows(schedule: Schedule, shapes: Sequence[Shape], num_units: int) -> _Rows:
    ranks, micro_batches = schedule.num_ranks, schedule.num_micro_batches
    is_packed = any((shape.draw_core >= 0).any() for shape in shapes)
    cores = len(CORE_DRAWS) * ranks * micro_batches if is_packed else 0
    return _Rows(num_units * micro_batches * ROWS_PER_UNIT, ranks, cores, micro_batches)


def _unit_ranks(schedule: Schedule, draw_units: Sequence[tuple[int, int]]) -> Ints:
    """(MoE units, micro-batches): the pipeline rank on which each runs."""
    ranks = [[schedule.rank_of(stage, m) for m in range(schedule.num_micro_batches)] for stage, _ in draw_units]
    return np.array(ranks, dtype=np.int64).reshape(len(draw_units), schedule.num_micro_batches)


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
            segment = hop_between(schedule, hops, stage, to, m)
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
    ordered: OrderedActions, shapes: Sequence[Shape], shape_of: Ints, base: Ints, inputs: Ints, rows: _Rows
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
        rank, micro_batch = ranks[members][:, None], micro[:, members].T[:, shape.draw_half]
        speed_row = np.where(shape.stream == COMPUTE, rows.loads + rank, -1)
        other = np.where(shape.draw_core >= 0, rows.of_core(shape.draw_core, rank, micro_batch), speed_row)
        draw_row[where] = np.where(shape.draw_base >= 0, shape.draw_base + ROWS_PER_UNIT * micro_batch, other)
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


def _last_on(
    stream: int, ranks: Ints, shapes: Sequence[Shape], shape_of: Ints, base: Ints, num_ranks: int
) -> list[int]:
    """The last operator of each rank's actions on a stream, -1 where there is none."""
    last = np.array([shape.last_on_stream[stream] for shape in shapes], dtype=np.int64)[shape_of]
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
    arrays: _Arrays, edges: Ints, tail: tuple[Ints, Ints, NDArray[np.bool_], Ints], table: ClassTable, rows: _Rows
) -> StepDag:
    tail_class, tail_resource, tail_join, tail_edges = tail
    rank, stream = np.divmod(tail_resource, NUM_STREAMS)
    tail_rows = np.where(stream == COMPUTE, rows.loads + rank, -1)
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
        num_resources=rows.ranks * NUM_STREAMS,
        num_classes=len(table.segments),
        num_draw_rows=rows.total,
    )
