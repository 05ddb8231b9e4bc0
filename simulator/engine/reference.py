"""The meaning of a step: one simpy process a stream and lane, one event an operator and lane, joins that lanes share.

Bit for bit equal to the sweep: simpy's clock is never a running sum. A timeout fires at now + duration, and a stream
goes on at the very time of the last event that it waited for, so that here too every finish is the rounded sum of the
latest finish before it and the duration.
"""

from __future__ import annotations

from collections.abc import Generator
from itertools import pairwise
from typing import Any

import numpy as np
import simpy

from simulator.engine.dag import FloatArray, StepDag, Timeline
from simulator.engine.inputs import check_dag, check_durations, describe_deadlock, wait_for_cycle
from simulator.errors import InconsistentSimulation

Process = Generator[simpy.Event, Any, None]

OPS_PER_S = 140_000
"""Operators of a lane that simpy executes in a second, about: measured on one core, for estimates of a wait."""
BYTES_PER_OP = 400
"""Memory of an operator and lane, about: its events and times."""


class _Run:
    """One simulation: the graph as lists (faster to index in Python than arrays), the events, the times."""

    def __init__(self, dag: StepDag, class_seconds: FloatArray, draws: FloatArray) -> None:
        self.env = simpy.Environment(initial_time=0.0)
        self.num_lanes = draws.shape[1]
        bounds, pred = dag.pred_ptr.tolist(), dag.pred.tolist()
        self.preds = [pred[first:last] for first, last in pairwise(bounds)]
        self.seconds = class_seconds[dag.op_class].tolist()
        self.draw_row = dag.draw_row.tolist()
        self.draws = draws.tolist()
        self.is_join = dag.is_join.tolist()
        self.done = [[self.env.event() for _ in self.preds] for _ in range(self.num_lanes)]
        self.num_arrived = [0] * len(self.preds)
        self.all_arrived = {op: self.env.event() for op, is_join in enumerate(self.is_join) if is_join}
        self.start = [[np.nan] * len(self.preds) for _ in range(self.num_lanes)]
        self.finish = [[np.nan] * len(self.preds) for _ in range(self.num_lanes)]

    def stream(self, ops: list[int], lane: int) -> Process:
        """Executes the operators of one resource in one lane, one after the other."""
        env, done = self.env, self.done[lane]
        start, finish = self.start[lane], self.finish[lane]
        for op in ops:
            for pred in self.preds[op]:
                if not done[pred].processed:
                    yield done[pred]
            if self.is_join[op]:
                yield from self._meet(op)
            row = self.draw_row[op]
            start[op] = env.now
            yield env.timeout(self.seconds[op] * (1.0 if row < 0 else self.draws[row][lane]))
            finish[op] = env.now
            done[op].succeed()

    def _meet(self, op: int) -> Process:
        """Waits until all lanes are ready for the operator; the last to arrive lets all go on."""
        self.num_arrived[op] += 1
        if self.num_arrived[op] == self.num_lanes:
            self.all_arrived[op].succeed()
        yield self.all_arrived[op]


def simulate_reference(dag: StepDag, class_seconds: FloatArray, draws: FloatArray | None = None) -> Timeline:
    """Start and finish of every operator in every lane, in seconds.

    class_seconds (num_classes,), draws (num_draw_rows, lanes) or None for one lane without variation.
    Raises InconsistentSimulation for a deadlock (with the wait-for cycle), an unsound graph, or a duration that is
    negative, NaN or infinite.
    """
    check_dag(dag)
    class_seconds, draws = check_durations(dag, class_seconds, draws)
    run = _Run(dag, class_seconds, draws)
    by_resource: list[list[int]] = [[] for _ in range(dag.num_resources)]
    for op, resource in enumerate(dag.resource.tolist()):
        by_resource[resource].append(op)
    processes = [run.env.process(run.stream(ops, lane)) for lane in range(run.num_lanes) for ops in by_resource if ops]
    all_done = run.env.all_of(processes)
    # simpy's queue also runs empty when everybody waits, with a time that looks like a result: ask for "all done".
    try:
        run.env.run(until=all_done)
    except RuntimeError:
        if all_done.triggered:
            raise
    if not all_done.triggered:
        unfinished = np.isnan(np.array(run.finish)).any(axis=0)
        raise InconsistentSimulation(describe_deadlock(dag, wait_for_cycle(dag, unfinished)))
    shape = (run.num_lanes, dag.num_ops)
    return Timeline(
        start_s=np.ascontiguousarray(np.array(run.start, dtype=np.float64).reshape(shape).T),
        finish_s=np.ascontiguousarray(np.array(run.finish, dtype=np.float64).reshape(shape).T),
    )
