"""A graph at other prices, from one at hand: its class table anew, its operators and edges where only seconds differ."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from simulator.assembly.expand import ClassTable, Form, PricedStep, Shape, expand, joined_classes, shapes_of
from simulator.assembly.joint import meetings
from simulator.assembly.step_graph import StepGraph
from simulator.assembly.tail import append_tail
from simulator.schedule.action import Schedule

ARRAYS: Final = (
    "op_class",
    "stream",
    "edges",
    "draw_base",
    "draw_half",
    "is_join",
    "first_on_stream",
    "last_on_stream",
    "ends",
)
"""Fields of a shape that are one array."""


def repriced(schedule: Schedule, priced: PricedStep, like: StepGraph) -> StepGraph:
    """`expand`, from a graph of the same schedule at other prices: where nothing but seconds differs, only the class table is
    new, and the operators and their edges are those of `like`.
    """
    form, table = like.form, ClassTable()
    wait_at_boundary = priced.wait_at_boundary and not priced.joint
    assert isinstance(form, Form)
    if (wait_at_boundary, priced.joint) != (form.wait_at_boundary, form.joint):
        return expand(schedule, priced)
    shapes, shape_of = shapes_of(schedule, form.ordered, priced, table, wait_at_boundary)
    if not np.array_equal(shape_of, form.shape_of) or not all(map(_is_alike, shapes, form.shapes)):
        return expand(schedule, priced)
    met = meetings(form.ordered) if priced.joint else None
    joined_class = joined_classes(schedule, form.ordered, met, table, priced.hops)
    tail = append_tail(priced.tail, schedule, table.row, like.tail_first, form.last_ops, form.last_collectives)
    is_same = np.array_equal(joined_class, form.joined_class) and all(map(np.array_equal, tail, form.tail))
    if not is_same or tuple(table.labels) != like.labels:
        return expand(schedule, priced)
    return replace(like, classes=tuple(table.segments))


def _is_alike(one: Shape, other: Shape) -> bool:
    """Whether two shapes differ in nothing but the seconds of their operators."""
    first, second = one.template, other.template
    return (
        (first.out_f, first.out_b, first.send_f, first.send_b)
        == (second.out_f, second.out_b, second.send_f, second.send_b)
        and (first.early_gather, first.next_gather) == (second.early_gather, second.next_gather)
        and (first.before_last, first.closing) == (second.before_last, second.closing)
        and all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ARRAYS)
        and all(map(np.array_equal, one.needs, other.needs))
    )
