"""One chain of operators without a gap from the start of the step to its end."""

from __future__ import annotations

import numpy as np

from simulator.engine.dag import IntArray, StepDag, Timeline
from simulator.errors import InconsistentSimulation


def critical_path(dag: StepDag, timeline: Timeline) -> IntArray:
    """Operators of one critical path, in the order of execution; empty for an empty graph.

    Each starts when the one before it finishes; at a join the path may go on in another lane. Among equals the operator
    with the smallest index, and the lowest lane, is taken. Raises InconsistentSimulation where the timeline has a gap.
    """
    if dag.num_ops == 0:
        return np.empty(0, dtype=np.int32)
    op, lane = (int(index) for index in np.unravel_index(int(np.argmax(timeline.finish_s)), timeline.finish_s.shape))
    path = [op]
    while True:
        preds = np.sort(dag.pred[dag.pred_ptr[op] : dag.pred_ptr[op + 1]])
        if not len(preds):
            return np.array(path[::-1], dtype=np.int32)
        if dag.is_join[op]:
            lane = int(np.argmax(timeline.finish_s[preds].max(axis=0)))
        waited = timeline.finish_s[preds, lane] == timeline.start_s[op, lane]
        if not waited.any():
            raise InconsistentSimulation(f"operator {op} starts in lane {lane} when none of its predecessors finishes")
        op = int(preds[np.argmax(waited)])
        path.append(op)
