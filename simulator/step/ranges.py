"""What the ranges of kernels, messages and gaps are worth in a step: each category at its ends, the others as they are.

Inside a category a class of kernels is wrong together (its library, its release, the GPU that its rate comes from:
hwprofiles/kernels/class_ranges.yaml), classes are independent of one another, and so are the calls of one shape, whose own
error averages out over the shapes of a step. Memory-bound kernels of one name, and messages of one kind, are wrong together.
Arithmetic at an end has the speed that the power limit then leaves: faster kernels of a limited step draw more.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from hwprofiles.kernels.anchoring import KernelCost
from hwprofiles.kernels.class_ranges import class_range, evidence_of, kernel_class
from hwprofiles.kernels.parameters import Range, need
from hwprofiles.kernels.shape import KERNELS, KernelShape
from hwprofiles.stack_records import Assumption
from simulator.assembly.chunks import Message, Piece, Segment
from simulator.assembly.step_graph import StepGraph
from simulator.assembly.unit_costs import INSIDE, KERNEL_GAPS
from simulator.results.interval import Interval
from simulator.results.joint import Source, sum_ends
from simulator.step.lanes import Lanes, Moved, lanes_of, sources_of
from simulator.step.power import RANGED, StepPower, seconds_at_end, seconds_if_longer
from simulator.step.prepared import PreparedStep
from simulator.step.pricing import GAP, KernelPrices
from simulator.workload.op import Op

Floats = NDArray[np.float64]

ARITHMETIC = frozenset(each.category for each in KERNELS.values() if each.bound != "memory")
"""Categories whose time goes with the chip's speed."""

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


def measured_ends(step: PreparedStep, power: StepPower) -> tuple[tuple[Source, ...], Interval]:
    """What measurements leave open at its ends, and the step's interval by that alone, relative to what it is."""
    sources = sources_of(*measured_sources(step, power))
    low, high = sum_ends(sources)
    return sources, Interval(low=max(0.0, 1.0 + low), high=1.0 + high)


_known: WeakKeyDictionary[StepPower, tuple[Lanes, list[Moved]]] = WeakKeyDictionary()


def measured_sources(step: PreparedStep, power: StepPower) -> tuple[Lanes, list[Moved]]:
    """Lanes of the step, and the sources that measurements are: categories of kernels and messages, and the share of
    `loop_source`; once for a solved step.
    """
    if power not in _known:
        gap_s = need(step.hardware.stack, GAP) if step.scenario.mechanisms.kernel_gaps else None
        _known[power] = lanes_of(power), [*_categories(power, gap_s), *loop_source(power, step.kernels)]
    return _known[power]


def _categories(power: StepPower, gap_s: Range | None) -> list[Moved]:
    """gap_s: between kernels, None where there is none."""
    graph, found = power.apart.graph, []
    for name, ends in relative_ends(graph, gap_s).items():
        if not max(ends):
            continue
        own = graph.seconds_by_category[name]
        at_low, at_high = (
            seconds_if_longer(power, change * own, is_arithmetic=name in ARITHMETIC) for change in (-ends.down, ends.up)
        )
        furthest = 1.0 / ends.down if ends.down else math.inf
        found.append(Moved(name, at_low, at_high, 1.0 - ends.down, 1.0, 1.0 + ends.up, (furthest, math.inf)))
    return found


def loop_source(power: StepPower, kernels: KernelPrices) -> list[Moved]:
    """`power.loop_share`: what a benchmark's loop had lost of the first launches' speed.

    None where no kernel's rate is of such a loop. A kernel beside others changes as it does alone.
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
                at, low, high = (
                    kernels.first_launch_speed(piece.what, each) for each in (share.value, share.low, share.high)
                )
                shapes[shape] = low / at - 1.0, high / at - 1.0
            added = [sum_of + cost.seconds * change for sum_of, change in zip(added, shapes[shape], strict=True)]
        known[id(segment)] = added[0], added[1]
    ends = np.array([known[id(segment)] for segment in power.apart.graph.classes]).T
    if not ends.any():
        return []
    at_low, at_high = (seconds_if_longer(power, each, is_arithmetic=True) for each in ends)
    held = within(share, 0.0, 1.0)
    return [Moved(f"power.{LOOP_SHARE}", at_low, at_high, share.low, share.value, share.high, held)]


def power_sources(power: StepPower) -> list[Moved]:
    """Power constants; none where nothing limits the step."""
    if not power.solved:
        return []
    found = []
    for key in RANGED:
        each = power.constants.by_key.get(key)
        low, high = power.constants.energy_range() if each is None else (each.low, each.high)
        at_low, at_high = (seconds_at_end(power, key, end) for end in (low, high))
        found.append(Moved(f"power.{key}", at_low, at_high, low, 1.0 if each is None else each.value, high))
    return found


def within(of: Range | Assumption, lowest: float, highest: float) -> tuple[float, float]:
    """How many times its range below and above its value a number can lie that is between `lowest` and `highest`."""
    below = (of.value - lowest) / (of.value - of.low) if of.value > of.low else math.inf
    above = (highest - of.value) / (of.high - of.value) if of.high > of.value else math.inf
    return below, above


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
