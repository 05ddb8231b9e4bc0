"""What the ranges of kernels, messages and gaps are worth in a step: each category at its ends, the others as they are.

Inside a category a class of kernels is wrong together (its library, its release, the GPU that its rate comes from:
hwprofiles/kernels/class_ranges.yaml), classes are independent of one another, and so are the calls of one shape, whose own
error averages out over the shapes of a step. Memory-bound kernels of one name, and messages of one kind, are wrong together.
Arithmetic at an end has the speed that the power limit then leaves: faster kernels of a limited step draw more.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hwprofiles.kernels.anchoring import KernelCost
from hwprofiles.kernels.class_ranges import class_range, evidence_of, kernel_class
from hwprofiles.kernels.parameters import Range
from hwprofiles.kernels.shape import KERNELS, KernelShape
from simulator import portable
from simulator.assembly.chunks import Message, Piece, Segment
from simulator.assembly.step_graph import StepGraph
from simulator.assembly.unit_costs import INSIDE, KERNEL_GAPS
from simulator.results.interval import Interval
from simulator.step.power import StepPower, step_if_longer
from simulator.step.pricing import KernelPrices
from simulator.workload.op import Op

Floats = NDArray[np.float64]

ARITHMETIC = frozenset(each.category for each in KERNELS.values() if each.bound != "memory")
"""Categories whose time goes with the chip's speed."""


SMALL = 0.003
"""Share of a step below which a category's ends are not swept: taken to be exposed as a whole."""
LOOP_SHARE = "loop_share"


class Ends(NamedTuple):
    """Seconds below and above those predicted, both at least 0."""

    down: float
    up: float


@dataclass
class _Category:
    """Sums over a step. common: class → ends that its calls share; alone: shape → ends of its calls by themselves."""

    seconds: float = 0.0
    common: dict[object, Ends] = field(default_factory=lambda: defaultdict(lambda: Ends(0.0, 0.0)))
    alone: dict[object, Ends] = field(default_factory=lambda: defaultdict(lambda: Ends(0.0, 0.0)))

    def relative(self) -> Ends:
        """Ends of the category over its seconds."""
        parts = (*self.common.values(), *self.alone.values())
        down, up = (math.hypot(*(each[i] for each in parts)) / self.seconds for i in (0, 1))
        return Ends(min(1.0, down), up)


def category_ranges(power: StepPower, gap_s: Range | None) -> dict[str, Interval]:
    """Category → change of the step, relative, at the ends of its range. gap_s: between kernels, None where there is none."""
    graph = power.apart.graph
    counts = np.bincount(graph.dag.op_class, minlength=len(graph.classes))
    changes = {}
    for name, ends in relative_ends(graph, gap_s).items():
        own = graph.seconds_by_category[name]
        share = portable.dot(own, counts.astype(np.float64)) / graph.num_ranks / power.step_s
        if max(ends) * share < SMALL:
            changes[name] = Interval(low=-ends.down * share, high=ends.up * share)
        else:
            changes[name] = _changes(power, -ends.down * own, ends.up * own, is_arithmetic=name in ARITHMETIC)
    return {name: each for name, each in changes.items() if each.width > 0.0}


def loop_range(power: StepPower, kernels: KernelPrices) -> dict[str, Interval]:
    """`power.loop_share` → change of the step at the ends of what a benchmark's loop had lost of the first launches' speed.

    Empty where no kernel's rate is of such a loop. A kernel beside others changes as it does alone.
    """
    share = power.constants.by_key[LOOP_SHARE]
    known: dict[int, tuple[float, float]] = {}
    shapes: dict[KernelShape, tuple[float, float]] = {}
    for segment in power.apart.graph.classes:
        if id(segment) in known:
            continue
        added = [0.0, 0.0]
        for piece in segment.pieces:
            cost = piece.cost
            if not isinstance(piece.what, Op) or not isinstance(cost, KernelCost) or cost.state != "benchmark_loop":
                continue
            shape = piece.what.shape
            if shape not in shapes:
                at, fast, slow = (
                    kernels.first_launch_speed(piece.what, each) for each in (share.value, share.high, share.low)
                )
                shapes[shape] = fast / at - 1.0, slow / at - 1.0
            added = [sum_of + cost.seconds * change for sum_of, change in zip(added, shapes[shape], strict=True)]
        known[id(segment)] = added[0], added[1]
    low, high = np.array([known[id(segment)] for segment in power.apart.graph.classes]).T
    if not low.any() and not high.any():
        return {}
    return {f"power.{LOOP_SHARE}": _changes(power, low, high, is_arithmetic=True)}


def _changes(power: StepPower, low: Floats, high: Floats, *, is_arithmetic: bool) -> Interval:
    """Of the step whose classes take `low` or `high` (classes,) seconds longer."""
    changes = [step_if_longer(power, each, is_arithmetic=is_arithmetic) / power.step_s - 1.0 for each in (low, high)]
    return Interval(low=min(0.0, *changes), high=max(0.0, *changes))


def relative_ends(graph: StepGraph, gap_s: Range | None) -> dict[str, Ends]:
    """Category → ends of its seconds, relative; of what has pieces, and of the gaps."""
    sums: dict[str, _Category] = defaultdict(_Category)
    known: dict[int, list[tuple[str, object, object, Ends, Ends, float]]] = {}
    counts = np.bincount(graph.dag.op_class, minlength=len(graph.classes))
    of_segment: dict[int, float] = defaultdict(float)
    by_id = {id(segment): segment for segment in graph.classes}
    for segment, count in zip(graph.classes, counts.tolist(), strict=True):
        of_segment[id(segment)] += count
    for key, count in of_segment.items():
        for category, common, alone, shared, single, seconds in known.setdefault(key, [*_pieces(by_id[key])]):
            of = sums[category]
            of.seconds += count * seconds
            of.common[common] = _plus(of.common[common], shared, count)
            of.alone[alone] = _plus(of.alone[alone], single, count)
    found = {name: of.relative() for name, of in sorted(sums.items()) if of.seconds > 0.0}
    if gap_s is not None and gap_s.value > 0.0 and KERNEL_GAPS in graph.seconds_by_category:
        found[KERNEL_GAPS] = Ends(1.0 - gap_s.low / gap_s.value, gap_s.high / gap_s.value - 1.0)
    return found


def _plus(sum_of: Ends, more: Ends, times: float) -> Ends:
    return Ends(sum_of.down + times * more.down, sum_of.up + times * more.up)


def _pieces(segment: Segment) -> Iterator[tuple[str, object, object, Ends, Ends, float]]:
    """Of every piece the category, class, call, ends that the class shares, those of the call alone, and seconds."""
    own: dict[str, float] = defaultdict(float)
    for piece in segment.pieces:
        own[_category(piece, segment)] += piece.cost.seconds
    for piece in segment.pieces:
        category, seconds = _category(piece, segment), piece.cost.seconds
        if not seconds:
            continue
        factor = segment.by_category.get(category, 0.0) / own[category]
        shared, single = _ends(piece)
        call = piece.what.shape if isinstance(piece.what, Op) else category
        yield category, _class(piece, category), call, _times(shared, factor), _times(single, factor), seconds * factor


def _times(ends: Ends, factor: float) -> Ends:
    return Ends(ends.down * factor, ends.up * factor)


def _category(piece: Piece, segment: Segment) -> str:
    """As its segment counts it: the end of a step counts its kernels as one."""
    if isinstance(piece.what, Op):
        name: str = KERNELS[piece.what.shape.op].category
    else:
        name = piece.what.category if isinstance(piece.what, Message) else INSIDE[piece.what.axis]
    if name in segment.by_category or not segment.by_category:
        return name
    return max(segment.by_category, key=lambda each: segment.by_category[each])


def _class(piece: Piece, category: str) -> str:
    return kernel_class(piece.what.shape) if isinstance(piece.what, Op) else category


def _ends(piece: Piece) -> tuple[Ends, Ends]:
    """Seconds by which a piece may be off with its class, and alone."""
    cost = piece.cost
    seconds, low, high = cost.seconds, getattr(cost, "low", cost.seconds), getattr(cost, "high", cost.seconds)
    own = Ends(max(0.0, seconds - low), max(0.0, high - seconds))
    found = None
    if isinstance(piece.what, Op) and isinstance(cost, KernelCost) and evidence_of(cost.basis) != "row":
        found = class_range(kernel_class(piece.what.shape), evidence_of(cost.basis))
    if found is None:
        return own, Ends(0.0, 0.0)
    return Ends(seconds * (1.0 - found.low), seconds * (found.high - 1.0)), own


def total(changes: Mapping[str, Interval]) -> Ends:
    """Independent changes together, relative."""
    return Ends(*(math.hypot(*(getattr(each, end) for each in changes.values())) for end in ("low", "high")))
