"""Is this timeline the one of this graph? Checked from the definition in O((n + edges) x lanes), nothing compiled."""

from __future__ import annotations

import numpy as np

from simulator.engine.dag import FloatArray, StepDag, Timeline
from simulator.engine.inputs import check_dag, check_durations, check_topological
from simulator.errors import InconsistentSimulation

MAX_GATHERED = 128_000
"""Finish times that are looked at together: 1 MB, so that they stay in the cache (four times faster than 32 MB)."""


def certify(dag: StepDag, class_seconds: FloatArray, draws: FloatArray | None, timeline: Timeline) -> None:
    """Raises InconsistentSimulation unless, bit for bit and for every operator and lane,
    start == latest finish of the predecessors (over all lanes for a join), finish == start + duration, all finite.

    By induction over the order of the graph only one timeline passes.
    """
    check_dag(dag)
    check_topological(dag)
    class_seconds, draws = check_durations(dag, class_seconds, draws)
    lanes = draws.shape[1]
    for name, times in (("start_s", timeline.start_s), ("finish_s", timeline.finish_s)):
        if times.shape != (dag.num_ops, lanes):
            raise InconsistentSimulation(f"certificate: {name} has shape {times.shape}, not ({dag.num_ops}, {lanes})")
    bounds = dag.pred_ptr.astype(np.int64)
    first = 0
    while first < dag.num_ops:
        limit = bounds[first] + max(1, MAX_GATHERED // lanes)
        last = max(first + 1, int(np.searchsorted(bounds, limit, side="right")) - 1)
        last = min(last, first + max(1, MAX_GATHERED // lanes), dag.num_ops)
        _certify_range(dag, class_seconds, draws, timeline, first, last)
        first = last


def _certify_range(
    dag: StepDag, class_seconds: FloatArray, draws: FloatArray, timeline: Timeline, first: int, last: int
) -> None:
    """The operators first..last-1."""
    ops = slice(first, last)
    start, finish = timeline.start_s[ops], timeline.finish_s[ops]
    bounds = dag.pred_ptr[first : last + 1]
    ready = np.zeros(start.shape)
    has_preds = np.diff(bounds) > 0
    if has_preds.any():
        gathered = timeline.finish_s[dag.pred[bounds[0] : bounds[-1]]]
        ready[has_preds] = np.maximum.reduceat(gathered, bounds[:-1][has_preds] - bounds[0], axis=0)
    joins = dag.is_join[ops]
    ready[joins] = ready[joins].max(axis=1, keepdims=True)
    duration = np.broadcast_to(class_seconds[dag.op_class[ops]][:, None], start.shape).copy()
    varied = dag.draw_row[ops] >= 0
    duration[varied] *= draws[dag.draw_row[ops][varied]]
    _demand(start, ready, first, "start", "the latest finish before it")
    _demand(finish, start + duration, first, "finish", "its start plus its duration")
    if not np.isfinite(finish).all():
        raise InconsistentSimulation(f"certificate: an operator of {first} to {last - 1} has no finite finish")


def _demand(found: FloatArray, expected: FloatArray, first: int, what: str, rule: str) -> None:
    """Bit for bit: no tolerance, and NaN equals nothing."""
    equal = found == expected
    if not equal.all():
        row, lane = (int(index) for index in np.unravel_index(int(np.argmin(equal)), found.shape))
        raise InconsistentSimulation(
            f"certificate: {what} of operator {first + row}, lane {lane} is {float(found[row, lane]).hex()}, "
            f"but {rule} is {float(expected[row, lane]).hex()} (seconds)"
        )
