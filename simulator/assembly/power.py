"""Watts in a step's graph: what every rank's kernels and messages cost in energy and time, and the graph at given speeds.

Knows no constants: a function gives the energy of a piece. Arithmetic takes 1 / speed of its seconds at speed 1; a kernel
that was measured inside a step keeps its time at the speeds which the board's own limit leaves, and follows them from there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import fsum
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from hwprofiles.kernels.anchoring import KernelCost
from hwprofiles.kernels.shape import KERNELS
from simulator.assembly.chunks import COMPUTE, NUM_STREAMS, Piece, Segment
from simulator.assembly.step_graph import StepGraph
from simulator.engine.dag import StepDag, Timeline
from simulator.workload.op import Op

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Energy = Callable[[Piece], tuple[float, float]]
"""Joules of an operator's FLOP at the reference speed, and of its bytes or of those that a message sends."""


@dataclass(frozen=True, eq=False)
class RankWork:
    """What the ranks do in a step, (ranks,) each. free_s, in_step_s: seconds of arithmetic at speed 1, and of that which was
    measured inside a step; flop_j, byte_j: energies.
    """

    free_s: Floats
    in_step_s: Floats
    flop_j: Floats
    byte_j: Floats


@dataclass(frozen=True, eq=False)
class ByRank:
    """The step's classes told apart by rank: the graph of them; of each (classes,) the rank, and seconds of both kinds of
    arithmetic; work: the ranks'; added_s: seconds that a class takes longer than the graph says, at speed 1.
    """

    graph: StepGraph
    rank: NDArray[np.int64]
    free_s: Floats
    in_step_s: Floats
    work: RankWork
    added_s: Floats | float = 0.0

    def seconds(self, speeds: Floats, own: Floats) -> Floats:
        """(classes,) seconds at the ranks' speeds; own: those at the board's limit."""
        speed = speeds[self.rank]
        changed: Floats = (
            self.graph.class_seconds()
            + self.added_s
            + self.free_s * (1.0 / speed - 1.0)
            + self.in_step_s * (own[self.rank] / speed - 1.0)
        )
        return changed

    def longer(self, added_s: Floats, *, is_arithmetic: bool) -> ByRank:
        """The classes `added_s` (classes,) longer at speed 1, by their arithmetic or by something that no clock bounds."""
        if not is_arithmetic:
            return replace(self, added_s=added_s)
        arithmetic = self.free_s + self.in_step_s
        factor = 1.0 + np.divide(added_s, arithmetic, out=np.zeros(len(arithmetic)), where=arithmetic > 0.0)
        free_s, in_step_s = self.free_s * factor, self.in_step_s * factor
        count = np.bincount(self.graph.dag.op_class, minlength=len(self.rank))
        free, in_step = (
            np.bincount(self.rank, count * each, minlength=self.graph.num_ranks).astype(np.float64)
            for each in (free_s, in_step_s)
        )
        work = replace(self.work, free_s=free, in_step_s=in_step)
        return ByRank(self.graph, self.rank, free_s, in_step_s, work, added_s)


def by_rank(graph: StepGraph, energy: Energy) -> ByRank:
    """Tells a graph's classes apart by the rank that runs them."""
    dag, old, rank, count = _told_apart(graph)
    apart = replace(
        graph, dag=dag, classes=tuple(graph.classes[i] for i in old), labels=tuple(graph.labels[i] for i in old)
    )
    known: dict[int, tuple[float, float, float, float]] = {}
    rows = np.array([_sums(segment, energy, known) for segment in graph.classes])[old]
    free_s, in_step_s, flop_j, byte_j = (
        np.bincount(rank, count * column, minlength=graph.num_ranks).astype(np.float64) for column in rows.T
    )
    return ByRank(apart, rank, rows[:, 0], rows[:, 1], RankWork(free_s, in_step_s, flop_j, byte_j))


def classes_apart(graph: StepGraph) -> Ints:
    """(classes of `by_rank`,) the class of the graph that each is."""
    return _told_apart(graph)[1]


_known: WeakKeyDictionary[StepDag, tuple[StepDag, Ints, Ints, Ints]] = WeakKeyDictionary()


def _told_apart(graph: StepGraph) -> tuple[StepDag, Ints, Ints, Ints]:
    """The operators with a class for each class and rank; of these (classes,) the old class, the rank and the operators. Once
    for graphs of one DAG.
    """
    if graph.dag not in _known:
        rank_of_op = graph.dag.resource.astype(np.int64) // NUM_STREAMS
        key = graph.dag.op_class * np.int64(graph.num_ranks) + rank_of_op
        times = np.bincount(key, minlength=graph.dag.num_classes * graph.num_ranks)
        pairs = np.flatnonzero(times)
        number = np.zeros(len(times), dtype=np.int32)
        number[pairs] = np.arange(len(pairs))
        dag, count = replace(graph.dag, op_class=number[key], num_classes=len(pairs)), times[pairs]
        _known[graph.dag] = (dag, pairs // graph.num_ranks, pairs % graph.num_ranks, count)
    return _known[graph.dag]


def _sums(
    segment: Segment, energy: Energy, known: dict[int, tuple[float, float, float, float]]
) -> tuple[float, float, float, float]:
    """A segment's seconds of arithmetic, of that in a step, joules of FLOP and of bytes. known: by the object itself."""
    if id(segment) not in known:
        free_s = in_step_s = flop_j = byte_j = 0.0
        for piece in segment.pieces:
            joules = energy(piece)
            flop_j, byte_j = flop_j + joules[0], byte_j + joules[1]
            if is_arithmetic(piece):
                in_step = _is_in_step(piece)
                free_s += 0.0 if in_step else piece.cost.seconds
                in_step_s += piece.cost.seconds if in_step else 0.0
        known[id(segment)] = free_s, in_step_s, flop_j, byte_j
    return known[id(segment)]


def is_arithmetic(piece: Piece) -> bool:
    """Whether the piece's time goes with the chip's speed."""
    return isinstance(piece.what, Op) and KERNELS[piece.what.shape.op].bound != "memory"


def _is_in_step(piece: Piece) -> bool:
    return isinstance(piece.cost, KernelCost) and piece.cost.state == "in_step"


def at_speeds(apart: ByRank, speeds: Floats, own: Floats) -> StepGraph:
    """The graph whose segments take the seconds of `ByRank.seconds`, with everything that they say of themselves."""
    known: dict[tuple[int, float, float], Segment] = {}
    classes = []
    for segment, rank in zip(apart.graph.classes, apart.rank, strict=True):
        key = id(segment), float(1.0 / speeds[rank]), float(own[rank] / speeds[rank])
        if key not in known:
            known[key] = slowed(segment, key[1], key[2])
        classes.append(known[key])
    return replace(apart.graph, classes=tuple(classes))


def slowed(segment: Segment, free: float, in_step: float) -> Segment:
    """A segment whose arithmetic takes `free` times as long, and what of it was measured inside a step `in_step` times."""
    if not any(is_arithmetic(piece) for piece in segment.pieces):
        return segment
    added = [0.0, 0.0, 0.0]
    by_category, by_basis = dict(segment.by_category), dict(segment.by_basis)
    pieces: list[Piece] = []
    for piece in segment.pieces:
        cost = piece.cost
        if not is_arithmetic(piece) or not isinstance(cost, KernelCost):
            pieces.append(piece)
            continue
        assert isinstance(piece.what, Op)
        factor = in_step if _is_in_step(piece) else free
        longer = replace(cost, seconds=cost.seconds * factor, low=cost.low * factor, high=cost.high * factor)
        pieces.append(Piece(piece.what, longer))
        ends = (longer.seconds - cost.seconds, longer.low - cost.low, longer.high - cost.high)
        added = [fsum(pair) for pair in zip(added, ends, strict=True)]
        category = KERNELS[piece.what.shape.op].category
        by_category[category] = by_category.get(category, 0.0) + ends[0]
        by_basis[cost.basis] = by_basis.get(cost.basis, 0.0) + ends[0]
    return replace(
        segment, seconds=segment.seconds + added[0], low=segment.low + added[1], high=segment.high + added[2],
        by_category=by_category, by_basis=by_basis, pieces=tuple(pieces),
    )  # fmt: skip


def beyond(resource: NDArray[np.int32], num_ranks: int, times: Timeline, window_s: float) -> Floats:
    """(ranks,) seconds of waits of a rank's compute stream that are longer than the window, the window of each taken off.

    What a rank waits at a step's end and at the next one's start is one wait. resource: of each operator, as StepDag's.
    """
    start, finish = times.start_s[:, 0], times.finish_s[:, 0]
    found, end_s = np.zeros(num_ranks), float(finish.max(initial=0.0))
    computes = np.flatnonzero((resource % NUM_STREAMS == COMPUTE) & (finish > start))
    rank = resource[computes].astype(np.int64) // NUM_STREAMS
    # A stream's operators run in index order. Numbers of 16 bits are sorted without comparing them.
    order = np.argsort(rank.astype(np.min_scalar_type(num_ranks)), kind="stable")
    computes, rank = computes[order], rank[order]
    for each in range(num_ranks):
        own = computes[np.searchsorted(rank, each) : np.searchsorted(rank, each, side="right")]
        if len(own):
            waits = start[own][1:] - finish[own][:-1]
            ends = start[own[0]] + end_s - finish[own[-1]]
            found[each] = np.maximum(waits - window_s, 0.0).sum() + max(0.0, float(ends) - window_s)
    return found


def dynamic_j(work: RankWork, scales: Sequence[float]) -> Floats:
    """(ranks,) energy above the waiting chip's, with that of arithmetic times each rank's scale."""
    total: Floats = work.flop_j * np.asarray(scales) + work.byte_j
    return total
