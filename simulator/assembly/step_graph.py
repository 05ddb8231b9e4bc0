"""What the assembly hands to the engine and back to the results: the graph, its class table, and where the actions are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from simulator.assembly.chunks import Segment
from simulator.engine.dag import StepDag
from simulator.schedule.action import Action

Ints = NDArray[np.int64]

KINDS = ("F", "B", "I", "W", "FB")


@dataclass(frozen=True, eq=False)
class ActionSpan:
    """Where the actions are in the graph; index arrays over all actions in an executable order.

    rank, kind (index in KINDS); first, last: operators [first, last). ends: (actions, 2) the last operator on the compute
    and on the communication stream, pipeline transfers not counted; inputs: (actions, 2) the operators that the forward's
    and the backward's pipeline input comes from, and a third column where the rank before it waits for what it sent itself
    (joint transfers); -1 where there is none. pairs_start_early: a pair starts with the first of its inputs, not with the last.
    joint_sends (2, n): the joint transfers, which stand behind another action than the one that sends, and the latter.
    """

    rank: Ints
    kind: Ints
    first: Ints
    last: Ints
    ends: Ints
    inputs: Ints
    pairs_start_early: bool
    joint_sends: Ints = field(default_factory=lambda: np.empty((2, 0), dtype=np.int64))


@dataclass(frozen=True, eq=False)
class StepGraph:
    """A step: the DAG, one segment and label a class, the actions' spans, and the meaning of the draw rows.

    draw_units: (stage, unit index) of the MoE units; row ((unit * num_micro_batches) + micro_batch) * ROWS_PER_UNIT + kind
    of the draws belongs to that unit's load. Behind these, one row a pipeline rank multiplies its other kernels (the speed
    of its GPU); the last num_core_rows, by kind of core, rank and micro-batch, multiply attention cores of packed documents.
    unit_ranks (units, micro-batches): the rank on which a unit runs. tail_first: first operator behind the actions (reduce,
    optimizer, gather). has_barrier: no rank goes on with the next step before all have ended. form: what it was made of, for
    `repriced`.
    """

    dag: StepDag
    classes: tuple[Segment, ...]
    labels: tuple[str, ...]
    spans: ActionSpan
    actions: tuple[Action, ...]
    draw_units: tuple[tuple[int, int], ...]
    num_micro_batches: int
    tail_first: int
    num_ranks: int
    unit_ranks: Ints
    has_barrier: bool = True
    num_core_rows: int = 0
    form: object = field(default=None, repr=False)

    @property
    def num_load_rows(self) -> int:
        """Rows of expert loads, which are the first."""
        return self.dag.num_draw_rows - self.num_ranks - self.num_core_rows

    def class_seconds(self, which: str = "seconds") -> NDArray[np.float64]:
        """(num_classes,) seconds, not to be written to; `which` is "seconds", "low" or "high"."""
        return self._seconds[which]

    @cached_property
    def _seconds(self) -> Mapping[str, NDArray[np.float64]]:
        ends = {
            which: np.array([getattr(segment, which) for segment in self.classes], dtype=np.float64)
            for which in ("seconds", "low", "high")
        }
        for values in ends.values():
            values.setflags(write=False)
        return ends

    @cached_property
    def seconds_by_category(self) -> Mapping[str, NDArray[np.float64]]:
        """Category → (num_classes,) seconds of it in each class, not to be written to; categories sorted."""
        table = {name: np.zeros(len(self.classes)) for name in sorted({n for s in self.classes for n in s.by_category})}
        for row, segment in enumerate(self.classes):
            for name, seconds in segment.by_category.items():
                table[name][row] = seconds
        for values in table.values():
            values.setflags(write=False)
        return table


def of_operators(graph: StepGraph, multipliers: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,) multiplier of every operator, 1 where nothing varies. multipliers: (draw rows,)."""
    rows = graph.dag.draw_row
    found = np.ones(len(rows))
    found[rows >= 0] = multipliers[rows[rows >= 0]]
    return found
