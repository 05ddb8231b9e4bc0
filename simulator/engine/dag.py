"""One step as flat arrays: operators, their order, their durations. Knows only class, resource and predecessor.

finish[i, lane] = ready + seconds[op_class[i]] * multiplier, where ready is the latest finish of the operator's
predecessors: in its own lane, or over all lanes where `is_join[i]` (a collective waits for its slowest member).
multiplier is 1 where draw_row[i] < 0, else draws[draw_row[i], lane].

A lane is one of several pipelines that run the same graph and meet in the joins (the ranks of an expert group); with
one lane a join is an ordinary operator.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int32]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class StepDag:
    """Operators in a topological order (every predecessor has a smaller index).

    op_class (n,): row of the class table. resource (n,): the stream that executes it; operators of one resource run in
    index order, and the previous operator of the resource is among the predecessors.
    pred_ptr (n+1,), pred (e,): predecessors of operator i are pred[pred_ptr[i]:pred_ptr[i+1]].
    draw_row (n,): row of the draws, -1 for none. is_join (n,): starts when all lanes are ready.
    num_resources, num_classes: sizes of the tables.
    """

    op_class: IntArray
    resource: IntArray
    pred_ptr: IntArray
    pred: IntArray
    draw_row: IntArray
    is_join: NDArray[np.bool_]
    num_resources: int
    num_classes: int
    num_draw_rows: int

    @property
    def num_ops(self) -> int:
        """Number of operators."""
        return len(self.op_class)


@dataclass(frozen=True, eq=False)
class Timeline:
    """start_s, finish_s: (n, lanes), seconds from the start of the step. makespan_s: the latest finish."""

    start_s: FloatArray
    finish_s: FloatArray

    @property
    def makespan_s(self) -> float:
        """The latest finish over operators and lanes, in seconds; 0 for an empty graph."""
        return float(self.finish_s.max()) if self.finish_s.size else 0.0
