"""From finish times of operators to the parts of a step on each rank.

An action's interval runs from the moment that its pipeline input is there and the rank is free to the end of its last
operator (pipeline transfers not counted); a pair whose halves do not wait for each other, from the first of its inputs. What
lies between intervals, and from a rank's last interval to the end of the last backward of all ranks, is bubble, so that no
compute lies in it; from there to the step's end is the optimizer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.assembly.chunks import COMPUTE, NUM_STREAMS
from simulator.assembly.step_graph import KINDS, StepGraph
from simulator.engine.dag import Timeline

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def observed_ops(graph: StepGraph) -> NDArray[np.int32]:
    """Operators whose finish times `rank_parts` needs, ascending."""
    spans = graph.spans
    seen = np.unique(np.concatenate((spans.ends.ravel(), spans.inputs.ravel())))
    return seen[seen >= 0].astype(np.int32)


@dataclass(frozen=True, eq=False)
class RankParts:
    """Seconds by rank, means over lanes. by_kind (ranks, len(KINDS)): summed intervals; bubble_s, (ranks,).

    backward_end_s: when the last backward of all ranks and lanes ends.
    """

    by_kind: Floats
    bubble_s: Floats
    backward_end_s: float


def rank_parts(graph: StepGraph, ops: NDArray[np.int32], finish_s: Floats) -> RankParts:
    """finish_s: (len(ops), lanes) for the operators of `observed_ops`."""
    by_kind = np.zeros((graph.num_ranks, len(KINDS)))
    idle = np.zeros((graph.num_ranks, finish_s.shape[1]))
    last = np.zeros_like(idle)
    for rank, times in enumerate(action_times(graph, ops, finish_s)):
        idle[rank] = (times.start_s - times.free_s).sum(axis=0)
        last[rank] = times.end_s[-1]
        lengths = (times.end_s - times.start_s).mean(axis=1)
        by_kind[rank] = np.bincount(graph.spans.kind[times.actions], weights=lengths, minlength=len(KINDS))
    backward_end = float(last.max())
    return RankParts(by_kind, (idle + backward_end - last).mean(axis=1), backward_end)


def overlap_with_next_s(graph: StepGraph, timeline: Timeline, parts: RankParts) -> float:
    """Seconds of a step in which some ranks have begun the next one already, where nothing but its own end holds a rank up.

    Steps alike then follow one another as fast as the rank allows that is longest from its first kernel to its end: each rank
    begins as much later, and ends as much later, as in the step before. Never more than any rank's bubble.
    """
    if graph.has_barrier:
        return 0.0
    rank, stream = np.divmod(graph.dag.resource, NUM_STREAMS)
    begins, ends = timeline.start_s.min(axis=1), timeline.finish_s.max(axis=1)
    longest = max(
        float(ends[rank == r].max() - begins[(rank == r) & (stream == COMPUTE)].min()) for r in range(graph.num_ranks)
    )
    return max(0.0, min(timeline.makespan_s - longest, float(parts.bubble_s.min())))


@dataclass(frozen=True, eq=False)
class ActionTimes:
    """The actions (n,) of one rank in order, and when each begins and ends, (n, lanes) seconds.

    free_s: when the one before ended, so that from there to start_s the rank is idle.
    """

    actions: Ints
    free_s: Floats
    start_s: Floats
    end_s: Floats


def action_times(graph: StepGraph, ops: NDArray[np.int32], finish_s: Floats) -> Iterator[ActionTimes]:
    """Rank by rank. finish_s: as in `rank_parts`."""
    spans = graph.spans
    ends = _largest(_finishes(spans.ends, ops, finish_s))
    arrivals = _finishes(spans.inputs, ops, finish_s)
    pairs = spans.kind == KINDS.index("FB") if spans.pairs_start_early else np.zeros(len(spans.rank), dtype=np.bool_)
    first = np.minimum.reduce([each[pairs] for each in arrivals])
    inputs = _largest(arrivals)
    inputs[pairs] = first
    for rank in range(graph.num_ranks):
        members = np.flatnonzero(spans.rank == rank)
        end = np.maximum.accumulate(np.maximum(ends[members], inputs[members]), axis=0)
        free = np.concatenate((np.zeros((1, end.shape[1])), end[:-1]))
        yield ActionTimes(members, free, np.maximum(free, inputs[members]), end)


def _finishes(indices: Ints, ops: NDArray[np.int32], finish_s: Floats) -> list[Floats]:
    """Of each column of indices (actions, columns): (actions, lanes) finish of each action's operator; 0 where it has none."""
    columns = []
    for where, is_none in zip(np.searchsorted(ops, indices).T, (indices < 0).T, strict=True):
        times = finish_s[np.minimum(where, len(ops) - 1)]
        times[is_none] = 0.0
        columns.append(times)
    return columns


def _largest(columns: list[Floats]) -> Floats:
    """The largest of each place; the first column is written to."""
    for each in columns[1:]:
        np.maximum(columns[0], each, out=columns[0])
    return columns[0]
