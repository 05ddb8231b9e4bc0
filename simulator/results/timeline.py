"""The timeline of one step: what every stream of every pipeline rank does when, of one random draw.

Knows neither engine nor graph: compact arrays and a table of what the operators are. Merged bars for a picture:
`timeline_view`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import fsum

import numpy as np
from numpy.typing import NDArray

from simulator.assembly.unit_costs import INSIDE
from simulator.results.step_result import RankTimes

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]

STREAMS = ("compute", "communication", "data parallel", "to host", "from host", "host")
"""Streams of a rank: kernels; dispatch, combine, pipeline transfers; data-parallel collectives; copies to the host and from
it; the process that issues all of them.
"""
COMPUTE = STREAMS.index("compute")
NUM_STREAMS = len(STREAMS)

BUBBLE, EXPOSED, HOST_WAIT, END_WAIT = "bubble", "exposed_communication", "host_wait", "end_wait"
IDLE = (BUBBLE, EXPOSED, HOST_WAIT, END_WAIT)
"""Why a compute stream has nothing to run: between actions; inside an action, for communication or for slower ranks of its
group; for the host, which has not issued what comes next; behind the last backward of all ranks, for the reduction of
gradients, the norm and the gather of parameters."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel or collective of an operator.

    name: in the workload; op: the kernel or collective that it calls; dtype: "" for collectives. sizes: (letter or word,
    number) of its shape; num_bytes: moved in device memory, or of the message. basis, source: where its seconds come from, ""
    where they are derived of several.
    """

    name: str
    op: str
    dtype: str
    sizes: tuple[tuple[str, int], ...]
    num_bytes: int
    seconds: float
    basis: str
    source: str


@dataclass(frozen=True, slots=True)
class OperatorClass:
    """What operators of one kind are: a run of kernels on one stream, or a collective, or (of no pass) a reason to idle.

    label: in the field's terms. passes: F, I (recomputed operators too), W, or "" for the step's end and for idling.
    seconds: evenly loaded, on a GPU of mean speed; by_category and by_basis sum to it.
    """

    label: str
    passes: str
    category: str
    seconds: float
    by_category: Mapping[str, float]
    by_basis: Mapping[str, float]
    kernels: tuple[Kernel, ...] = ()

    @property
    def is_idle(self) -> bool:
        """Whether it is no operator but time in which a compute stream has none."""
        return self.category in IDLE


@dataclass(frozen=True, slots=True)
class Lane:
    """The pipeline that is shown of those that run side by side: index, of how many, and why this one."""

    index: int
    count: int
    why: str


@dataclass(frozen=True, eq=False)
class StepTimeline:
    """n slices, by rank, stream and start; those of one stream never overlap, those of a compute stream fill the step.

    start_s, end_s (n,): seconds from the start of the step. stream_of (n,): rank * NUM_STREAMS + stream. op_class (n,): row of
    classes. action (n,): row of actions, -1 for none: of an operator the one that it belongs to, of a bubble the one that is
    waited for. actions (m, 4): stage and micro-batch, and those of the backward half of a pair (-1, -1: no pair).
    action_names (m,): in the notation of the field.
    step_s: of this draw; mean_step_s: of all draws, None where it is not known. draw: its number, from 0, of num_draws.
    by_rank: the parts of this draw on the shown lane; in_flight: most micro-batches whose activations a rank holds, counted in
    stages.
    """

    schedule: str
    num_ranks: int
    num_micro_batches: int
    step_s: float
    mean_step_s: float | None
    draw: int
    num_draws: int
    lane: Lane
    start_s: Floats
    end_s: Floats
    stream_of: Ints
    op_class: Ints
    action: Ints
    classes: tuple[OperatorClass, ...]
    actions: Ints
    action_names: tuple[str, ...]
    by_rank: tuple[RankTimes, ...]
    in_flight: tuple[int, ...]

    @cached_property
    def stream_first(self) -> NDArray[np.int64]:
        """(ranks * NUM_STREAMS + 1,): the first slice of each stream, and n."""
        return np.searchsorted(self.stream_of, np.arange(self.num_ranks * NUM_STREAMS + 1))

    @cached_property
    def categories(self) -> tuple[str, ...]:
        """All categories of the classes, the busy ones sorted, then the reasons to idle."""
        busy = {name for each in self.classes if not each.is_idle for name in each.by_category}
        return (*sorted(busy), *IDLE)

    @cached_property
    def shares(self) -> Floats:
        """(classes, categories): what each class consists of; rows sum to 1."""
        table = np.zeros((len(self.classes), len(self.categories)))
        at = {name: column for column, name in enumerate(self.categories)}
        for row, each in enumerate(self.classes):
            total = fsum(each.by_category.values())
            for name, seconds in each.by_category.items():
                table[row, at[name]] = seconds / total if total else 0.0
            if not total:
                table[row, at[each.category]] = 1.0
        return table

    def slices(self, rank: int, stream: int, start_s: float, end_s: float) -> slice:
        """The slices of a stream that lie, in part at least, inside a window."""
        first, last = self.stream_first[rank * NUM_STREAMS + stream :][:2].tolist()
        here = slice(
            first + int(np.searchsorted(self.end_s[first:last], start_s, side="right")),
            first + int(np.searchsorted(self.start_s[first:last], end_s, side="left")),
        )
        return here

    def by_category(
        self, rank: int, stream: int = COMPUTE, start_s: float = 0.0, end_s: float | None = None
    ) -> dict[str, float]:
        """Category → seconds of a stream inside a window (default: the step); categories without any are left out."""
        end_s = self.step_s if end_s is None else end_s
        here = self.slices(rank, stream, start_s, end_s)
        inside = np.minimum(self.end_s[here], end_s) - np.maximum(self.start_s[here], start_s)
        seconds = np.bincount(self.op_class[here], inside, len(self.classes)) @ self.shares
        return {name: float(s) for name, s in zip(self.categories, seconds, strict=True) if s > 0}

    def exposed_comm_s(self, rank: int) -> float:
        """Communication with no compute beside it, and waits inside actions, as the result document counts them."""
        spent = self.by_category(rank)
        return fsum(spent.get(name, 0.0) for name in (EXPOSED, *dict.fromkeys(INSIDE.values())))

    @cached_property
    def mean_bubble_s(self) -> float:
        """Mean over the ranks."""
        return self.mean_over_ranks(rank.bubble_s for rank in self.by_rank)

    @cached_property
    def mean_exposed_comm_s(self) -> float:
        """Mean over the ranks."""
        return self.mean_over_ranks(self.exposed_comm_s(rank) for rank in range(self.num_ranks))

    @cached_property
    def optimizer_s(self) -> float:
        """The step's end: reductions that nothing hides, norm, optimizer, gathers; the same on all ranks."""
        return self.by_rank[0].optimizer_s

    def mean_over_ranks(self, of_rank: Iterable[float]) -> float:
        """The mean over the pipeline ranks."""
        return fsum(of_rank) / self.num_ranks

    def shown_ranks(self, limit: int) -> tuple[int, ...]:
        """All ranks, or `limit` of them: the edges, the middle, and others evenly between."""
        if self.num_ranks <= limit:
            return tuple(range(self.num_ranks))
        spread = np.linspace(0, self.num_ranks - 1, max(limit - 1, 2)).round().astype(int).tolist()
        return tuple(sorted({*spread, self.num_ranks // 2}))[: max(limit, 3)]


def streams_of(timeline: StepTimeline, ranks: Sequence[int]) -> tuple[int, ...]:
    """The streams on which any of these ranks does something."""
    first = timeline.stream_first
    used = [
        any(first[rank * NUM_STREAMS + stream] < first[rank * NUM_STREAMS + stream + 1] for rank in ranks)
        for stream in range(NUM_STREAMS)
    ]
    return tuple(stream for stream, is_used in enumerate(used) if is_used)
