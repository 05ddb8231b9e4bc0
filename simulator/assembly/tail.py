"""The end of a step: gradients reduced that are not yet, norm, optimizer, parameters gathered that are not gathered later.

Where two ranks hold a stage (DualPipe), or no reduction may run beside the backward, its gradients are reduced here: the
reduction starts when the last weight gradient of the stage is done on every holder. The norm needs all reductions, those
inside actions (collectives.py) too; the optimizer the norm; each gather its rank's optimizer. Without that barrier a rank needs
its own reductions alone, and with post-validation (Qi et al. 2023, arXiv:2401.10241, section 4) the norm of the ranks before.
Reductions run on the rank's data-parallel stream, beside what is left of the pipeline where `overlap_reduce` says so, else
behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from simulator.assembly.chunks import COMPUTE, DP, HOST, NUM_STREAMS, Segment
from simulator.schedule.action import Schedule

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class CopiesSum:
    """The sum of a gradient over the pipeline ranks that hold copies of one matrix (tied embeddings)."""

    ranks: Sequence[int]
    name: str
    segment: Segment


@dataclass(frozen=True)
class HostTail:
    """What the host does at a step's end. None: nothing that takes time.

    issue: the collectives up to the norm. reads_norm: it reads the norm, and so waits for it, and issues the optimizer.
    other: what it does behind the optimizer, before the next step begins.
    """

    issue: Segment | None = None
    reads_norm: Segment | None = None
    other: Segment | None = None


@dataclass(frozen=True)
class TailCosts:
    """reduce[stage], gather[stage]: collectives in order. norm[rank], optimizer[rank]: seconds of these; without norms the
    optimizer begins behind its rank's reductions. has_barrier: every norm waits for all ranks, else for those before its
    own. copies: sums behind the reductions of all ranks that take part. host: None: it holds nothing up.
    """

    reduce: Sequence[Sequence[tuple[str, Segment]]]
    gather: Sequence[Sequence[tuple[str, Segment]]]
    norm: Sequence[Segment]
    optimizer: Sequence[Segment]
    overlap_reduce: bool
    has_barrier: bool = True
    copies: Sequence[CopiesSum] = ()
    host: HostTail | None = None


class _Put(Protocol):
    """Appends an operator."""

    def __call__(
        self, rank: int, stream: int, label: str, segment: Segment, preds: Sequence[int], *, join: bool
    ) -> int: ...


@dataclass
class _Host:
    """The host's stream of every rank. last: the operator with which it ends, as a list."""

    work: HostTail
    append: _Put
    last: list[list[int]]

    def put(self, rank: int, label: str, segment: Segment | None, preds: Sequence[int]) -> None:
        """Appends work of the host, where there is any."""
        if segment is not None:
            self.last[rank] = [
                self.append(rank, HOST, f"host.{label}", segment, [*self.last[rank], *preds], join=False)
            ]


def append_tail(
    tail: TailCosts, schedule: Schedule, row: Callable[[str, Segment], int], first: int,
    last_backward: Mapping[tuple[int, int], int], last_collective: Sequence[int], last_issue: Sequence[int] = (),
) -> tuple[Ints, Ints, NDArray[np.bool_], Ints]:  # fmt: skip
    """Class, resource, join flag and edges (operator, predecessor) of the operators from index `first` on.

    last_backward: (rank, stage) → its last weight gradient. last_collective, last_issue: of each rank's actions, the last
    data-parallel collective and the last operator of the host, -1 for none.
    """
    classes: list[int] = []
    resources: list[int] = []
    joins: list[bool] = []
    edges: list[tuple[int, int]] = []
    stream_end = list(last_collective)

    def put(rank: int, stream: int, label: str, segment: Segment, preds: Sequence[int], *, join: bool) -> int:
        index = first + len(classes)
        classes.append(row(label, segment))
        resources.append(rank * NUM_STREAMS + stream)
        joins.append(join)
        waits = set(preds)
        if stream == DP and stream_end[rank] >= 0:
            waits.add(stream_end[rank])
        if stream == DP:
            stream_end[rank] = index
        edges.extend((index, pred) for pred in sorted(waits))
        return index

    host = _Host(
        tail.host or HostTail(), put, [[op] if op >= 0 else [] for op in last_issue or [-1] * schedule.num_ranks]
    )
    for rank in range(schedule.num_ranks):
        host.put(rank, "collectives", host.work.issue, [])
    compute_end = [max(op for (r, _), op in last_backward.items() if r == rank) for rank in range(schedule.num_ranks)]
    reduced = [{op} if op >= 0 else set[int]() for op in last_collective]
    for rank, stages in enumerate(schedule.placement):
        for stage in sorted(stages, key=lambda s: last_backward[rank, s]):
            preds = [last_backward[holder, stage] for holder in schedule.holders(stage)]
            if not tail.overlap_reduce:
                preds.append(compute_end[rank])
            preds += host.last[rank]
            for name, segment in tail.reduce[stage]:
                preds = [put(rank, DP, f"stage_{stage}.{name}", segment, preds, join=True)]
            reduced[rank].update(preds)
    for copies in tail.copies:
        ends = [compute_end[rank] if stream_end[rank] < 0 else stream_end[rank] for rank in copies.ranks]
        for rank in copies.ranks:
            reduced[rank].add(put(rank, DP, copies.name, copies.segment, [*ends, *host.last[rank]], join=True))
    waited = [sorted(set().union(*reduced))] * len(reduced) if tail.has_barrier else [sorted(each) for each in reduced]
    for rank, segment in enumerate(tail.norm):
        before = [] if tail.has_barrier or not rank else waited[rank - 1]
        waited[rank] = [put(rank, DP, "grad_norm", segment, [*waited[rank], *before, *host.last[rank]], join=True)]
    for rank, stages in enumerate(schedule.placement):
        host.put(rank, "optimizer_issue", host.work.reads_norm, waited[rank])
        waits = [*waited[rank], compute_end[rank], *host.last[rank]]
        done = put(rank, COMPUTE, f"rank_{rank}.optimizer", tail.optimizer[rank], waits, join=False)
        for stage in stages:
            preds = [done]
            for name, segment in tail.gather[stage]:
                preds = [put(rank, DP, f"stage_{stage}.{name}", segment, preds, join=True)]
        host.put(rank, "other", host.work.other, [done])
    return (
        np.array(classes, dtype=np.int64), np.array(resources, dtype=np.int64), np.array(joins, dtype=bool),
        np.array(edges, dtype=np.int64).reshape(-1, 2).T,
    )  # fmt: skip
