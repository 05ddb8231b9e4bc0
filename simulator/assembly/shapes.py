"""A schedule's actions and their stages' costs → the distinct templates of operators, as arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from simulator.assembly.chunks import COMM, COMPUTE, NO_TRANSFERS, NUM_STREAMS, DrawKind, Segment, StageCost, Transfers
from simulator.assembly.collectives import NO_COLLECTIVES, ActionCollectives, StageCollectives
from simulator.assembly.host import HostPlan, with_host
from simulator.assembly.pair import build_template
from simulator.assembly.pairing import Pairing
from simulator.assembly.tail import TailCosts
from simulator.assembly.template import INPUT_B, INPUT_BOTH, INPUT_F, Template
from simulator.schedule.action import Action, Kind, Schedule
from simulator.schedule.order import OrderedActions

DRAW_OFFSET: Mapping[DrawKind, int] = {"rank": 0, "arriving": 1, "leaving": 2}
ROWS_PER_UNIT = len(DRAW_OFFSET)
"""Draw rows of one MoE unit and micro-batch: load of the lane's experts, of what a dispatch brings it, of the fullest sender of
a combine."""

CORE_DRAWS: tuple[DrawKind, ...] = ("documents", "windowed")
"""Loads of attention cores; a row of each for a pipeline rank and micro-batch, where anything is packed."""

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
    """A template as arrays. draw_base: first row of the operator's expert load, draw_core: place in CORE_DRAWS; -1: none."""

    template: Template
    op_class: Ints
    stream: Ints
    edges: Ints
    draw_base: Ints
    draw_core: Ints
    draw_half: Ints
    is_join: NDArray[np.bool_]
    needs: tuple[Ints, Ints]
    first_on_stream: Ints
    last_on_stream: Ints
    ends: Ints


@dataclass(frozen=True)
class PricedStep:
    """All that a schedule's actions and the step's end take.

    stages: in forward order; tail: the end of the step. pairing, wait_at_boundary: as in pair.build_template.
    collectives: of every stage in its actions; without them nothing is gathered or reduced there.
    hops[r]: a transfer from pipeline rank r to the next, or back; the last one round to rank 0. joint: a transfer begins when
    its sender and its receiver have both ended a chunk, and both wait for it (not with overlapped pairs).
    """

    stages: Sequence[StageCost]
    tail: TailCosts
    pairing: Pairing
    wait_at_boundary: bool
    hops: Sequence[Segment]
    collectives: Sequence[StageCollectives] = ()
    joint: bool = False
    host: HostPlan | None = None
    """What the host issues, None where it holds nothing up."""
    prices: object = None
    """What tail, collectives and hops were priced with, for whoever prices the step again."""


def shapes_of(
    schedule: Schedule, ordered: OrderedActions, priced: PricedStep, table: ClassTable, wait_at_boundary: bool
) -> tuple[list[Shape], Ints]:
    """The distinct templates of a priced step, and the one of each action."""
    units, micro_batches = draw_units_of(priced.stages), schedule.num_micro_batches
    parts, shape_of = parts_of(schedule, ordered, priced)
    shapes = []
    for part in parts:
        template = build_template(
            *part[:3], pairing=priced.pairing, wait_at_boundary=wait_at_boundary, sent=part[3],
            collectives=part[4],
        )  # fmt: skip
        if priced.host is not None:
            template = with_host(template, priced.host, routed_units(part), waits=part[5])
        halves = {"F": part[1].stage, "B": (part[2] or part[1]).stage}
        shapes.append(_shape(template, table, units, halves, micro_batches))
    return shapes, shape_of


Part = tuple[Kind, StageCost, StageCost | None, Transfers, ActionCollectives, bool]
"""What the operators of an action come from: its kind, its stage (of an FB, the forward half's), the stage of an FB's backward
half, what it sends to other ranks, what data parallelism gathers and reduces in it, and whether the host waits for its GPU
before it.
"""


def routed_units(part: Part) -> dict[str, frozenset[int]]:
    """Half of an action → its units with experts."""
    _, stage, b_stage, *_ = part
    of_halves = {"F": stage, "B": b_stage or stage}
    return {
        half: frozenset(i for i, unit in enumerate(of.units) if unit.is_moe) for half, of in of_halves.items()
    }  # fmt: skip


def parts_of(schedule: Schedule, ordered: OrderedActions, priced: PricedStep) -> tuple[list[Part], Ints]:
    """The distinct actions of a priced step, and the one that each is like."""
    stages, waits = priced.stages, priced.host is not None and priced.host.waits_at_exchanges
    planned = _collectives(ordered, priced.collectives or [StageCollectives()] * len(stages))
    index: dict[tuple[object, ...], int] = {}
    parts: list[Part] = []
    like = np.empty(len(ordered.groups), dtype=np.int64)
    for i, group in enumerate(ordered.groups):
        action, (is_first, is_last, collectives) = group.example, planned[i]
        sent = NO_TRANSFERS if priced.joint else _sent(schedule, action, priced.hops)
        is_synced = waits and group.exchanges
        key = (
            action.kind, action.stage, action.b_stage, is_first, is_last, id(sent.output), id(sent.gradient), is_synced,
        )  # fmt: skip
        if key not in index:
            index[key] = len(parts)
            b_stage = stages[action.b_stage] if action.b_stage is not None else None
            parts.append((action.kind, stages[action.stage], b_stage, sent, collectives, is_synced))
        like[i] = index[key]
    return parts, like[ordered.group_of]


def draw_units_of(stages: Sequence[StageCost]) -> dict[tuple[int, int], int]:
    """(stage, unit index) of the MoE units → their number."""
    units = ((stage.stage, idx) for stage in stages for idx, unit in enumerate(stage.units) if unit.is_moe)
    return {unit: row for row, unit in enumerate(units)}


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
            elif kind == "I":  # reads the weights; a W reads the inputs and makes what is reduced
                backward = replace(own.backward, reduces=())
            else:
                is_last = group.last == stage and own.last_backward is not own.backward
                backward = own.last_backward if is_last else own.backward
                backward = replace(backward, gathers=()) if kind == "W" else backward
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
    draw_base, draw_core = np.full(len(ops), -1, dtype=np.int64), np.full(len(ops), -1, dtype=np.int64)
    for i, op in enumerate(ops):
        preds = set(op.preds)
        if last[op.stream] >= 0:
            preds.add(int(last[op.stream]))
        else:
            first[op.stream] = i
        last[op.stream] = i
        if not op.is_send and op.stream in (COMPUTE, COMM):
            ends[op.stream] = i
        edges += [(i, pred) for pred in sorted(preds)]
        if op.draw in CORE_DRAWS:
            draw_core[i] = CORE_DRAWS.index(op.draw)
        elif op.draw != "none":
            unit = draw_units[halves[op.half], op.unit]
            draw_base[i] = unit * num_micro_batches * ROWS_PER_UNIT + DRAW_OFFSET[op.draw]
    return Shape(
        template=template,
        op_class=np.array([table.row(op.label, op.segment) for op in ops], dtype=np.int64),
        stream=stream,
        edges=np.array(edges, dtype=np.int64).reshape(-1, 2).T,
        draw_base=draw_base,
        draw_core=draw_core,
        draw_half=np.array([op.half == "B" for op in ops], dtype=np.int64),
        is_join=np.array([op.is_join for op in ops], dtype=bool),
        needs=(
            np.array([i for i, op in enumerate(ops) if op.needs in (INPUT_F, INPUT_BOTH)], dtype=np.int64),
            np.array([i for i, op in enumerate(ops) if op.needs in (INPUT_B, INPUT_BOTH)], dtype=np.int64),
        ),
        first_on_stream=first, last_on_stream=last, ends=ends,
    )  # fmt: skip


def hop_between(
    schedule: Schedule, hops: Sequence[Segment], stage: int, other: int, micro_batch: int
) -> Segment | None:
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
            moved[kind == "F"] = hop_between(
                schedule, hops, stage, stage + 1 if kind == "F" else stage - 1, micro_batch
            )
    return Transfers(moved.get(True), moved.get(False))
