"""A graph at other prices, from one at hand: its class table anew, its operators and edges where only seconds differ."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from simulator.assembly.chunks import BlockCost, Segment, StageCost
from simulator.assembly.collectives import PassCollectives, StageCollectives
from simulator.assembly.expand import Form, expand, joined_classes
from simulator.assembly.host import issued_anew
from simulator.assembly.joint import meetings
from simulator.assembly.shapes import ClassTable, Part, PricedStep, parts_of
from simulator.assembly.sides import sides_of
from simulator.assembly.step_graph import StepGraph
from simulator.assembly.tail import append_tail
from simulator.assembly.template import Template
from simulator.schedule.action import Schedule


def repriced(schedule: Schedule, priced: PricedStep, like: StepGraph) -> StepGraph:
    """`expand`, from a graph of the same schedule at other prices: where nothing but seconds differs, only the class table is
    new, and the operators and their edges are those of `like`.
    """
    form = like.form
    assert isinstance(form, Form)
    table = _actions(schedule, priced, form, like.labels)
    if table is None:
        return expand(schedule, priced)
    met = meetings(form.ordered) if priced.joint else None
    joined_class = joined_classes(schedule, form.ordered, met, table, priced.hops)
    tail = append_tail(
        priced.tail, schedule, table.row, like.tail_first, form.last_ops, form.last_collectives, form.last_issues
    )
    is_same = np.array_equal(joined_class, form.joined_class) and all(map(np.array_equal, tail, form.tail))
    if not is_same or tuple(table.labels) != like.labels:
        return expand(schedule, priced)
    return replace(like, classes=tuple(table.segments))


def _actions(schedule: Schedule, priced: PricedStep, form: Form, labels: Sequence[str]) -> ClassTable | None:
    """The classes of the actions' operators, looked up where those of the graph's templates came from; None where a new graph
    would have other operators or classes.
    """
    waits = priced.wait_at_boundary and not priced.joint
    if (waits, priced.joint) != (form.wait_at_boundary, form.joint) or _exchanges(priced) != _exchanges(form.priced):
        return None
    if _outline(priced) != _outline(form.priced):
        return None
    parts, shape_of = parts_of(schedule, form.ordered, priced)
    if not np.array_equal(shape_of, form.shape_of):
        return None
    found: dict[int, Segment] = {}
    for shape, part in zip(form.shapes, parts, strict=True):
        segments = _segments(shape.template, part, priced)
        if segments is None:
            return None
        for row, segment in zip(shape.op_class.tolist(), segments, strict=True):
            if found.setdefault(row, segment) is not segment:
                return None
    segments = [found[row] for row in range(len(found))]
    rows = {(label, id(segment)): row for row, (label, segment) in enumerate(zip(labels, segments, strict=False))}
    return ClassTable(rows, segments, list(labels[: len(segments)])) if len(rows) == len(segments) else None


def _segments(template: Template, part: Part, priced: PricedStep) -> list[Segment] | None:
    """Every operator's segment at other prices, None where the host's operators would stand elsewhere."""
    kind, stage, b_stage, sent, collectives, _ = part
    bare = template.bare or template
    segments = bare.segments(sides_of(kind, stage, b_stage, collectives, priced.pairing), sent)
    if priced.host is None:
        return segments if template.bare is None else None
    return issued_anew(template, segments, priced.host)


def _exchanges(priced: PricedStep) -> bool:
    """Whether hosts wait at pipeline exchanges."""
    return priced.host is not None and priced.host.waits_at_exchanges


def _outline(priced: PricedStep) -> tuple[object, ...]:
    """What templates are made of but for seconds."""
    known: dict[tuple[int, int], object] = {}
    stages = tuple(_of_stage(stage, known) for stage in priced.stages)
    return priced.pairing, stages, tuple(map(_of_collectives, priced.collectives))


def _of_stage(stage: StageCost, known: dict[tuple[int, int], object]) -> tuple[object, ...]:
    """known: by the very objects of a unit, which the layers of a kind share."""
    found: list[object] = []
    for unit in stage.units:
        same = id(unit.blocks), id(unit.all_to_all)
        if same not in known:
            blocks = tuple(_of_blocks(each.items()) for each in (unit.blocks, unit.beside, unit.apart))
            known[same] = (blocks, tuple(unit.all_to_all), unit.is_moe)
        found.append((unit.name, unit.replays, known[same]))
    copies = tuple(each.unit for each in (*stage.copies.out, *stage.copies.back))
    return (stage.stage, len(stage.copies.out), copies, *found)


def _of_blocks(blocks: Iterable[tuple[object, BlockCost]]) -> tuple[object, ...]:
    return tuple((key, *((suffix, draw) for suffix, draw, _ in block.segments)) for key, block in blocks)


def _of_collectives(of: StageCollectives) -> tuple[object, ...]:
    return tuple(_of_pass(each) for each in (of.forward, of.backward, of.first_forward, of.last_backward))


def _of_pass(plan: PassCollectives) -> tuple[object, ...]:
    buckets = ((each.unit, *(name for name, _ in each.collectives)) for each in (*plan.gathers, *plan.reduces))
    return (len(plan.gathers), plan.ahead, plan.reduces_beside, *buckets)
