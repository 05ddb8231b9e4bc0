"""The time in which a device waits for its host and for nothing else."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simulator.assembly.chunks import COMPUTE, HOST, NUM_STREAMS
from simulator.assembly.intervals import action_times, observed_ops
from simulator.assembly.step_graph import StepGraph

Floats = NDArray[np.float64]


def host_waits(graph: StepGraph, start_s: Floats, finish_s: Floats) -> Floats:
    """(n,) seconds before each operator of a compute stream in which its rank waits for the host, inside its actions; 0 for
    other operators.

    start_s, finish_s (n,): of one lane. An operator waits from when all else that it needs is there until it begins; of what
    it waits for a message, as long as that message waited for the host itself. What lies before the rank's last bubble, or in
    it, is none: a pipeline input that waited for its sender's host makes the bubble longer.
    """
    dag = graph.dag
    waits = np.zeros(dag.num_ops)
    stream = dag.resource % NUM_STREAMS
    if not (stream == HOST).any():
        return waits
    target = np.repeat(np.arange(dag.num_ops), np.diff(dag.pred_ptr))
    end = np.where(stream[dag.pred] == HOST, 0.0, finish_s[dag.pred])
    ready = np.zeros(dag.num_ops)
    np.maximum.at(ready, target, end)
    own = np.where(stream == HOST, 0.0, np.maximum(0.0, start_s - ready))
    carried = np.zeros(dag.num_ops)
    is_last = (end >= ready[target]) & (stream[dag.pred] != COMPUTE)
    np.maximum.at(carried, target[is_last], own[dag.pred[is_last]])
    compute = np.flatnonzero(stream[: graph.tail_first] == COMPUTE)
    ops = observed_ops(graph)
    for rank, times in enumerate(action_times(graph, ops, finish_s[ops, None])):
        mine = compute[dag.resource[compute] // NUM_STREAMS == rank]
        begins, free = times.start_s[:, 0], times.free_s[:, 0]
        bubble_ends = np.maximum.accumulate(np.where(begins > free, begins, 0.0))
        since = bubble_ends[np.searchsorted(begins, start_s[mine], side="right") - 1]
        idle = start_s[mine] - np.maximum(since, np.concatenate(([0.0], finish_s[mine[:-1]])))
        waits[mine] = np.minimum(own[mine] + carried[mine], np.maximum(0.0, idle))
    return waits


def host_wait_s(graph: StepGraph, start_s: Floats, finish_s: Floats) -> float:
    """Seconds of these inside actions, mean over the ranks. start_s, finish_s: as in `host_waits`."""
    return float(host_waits(graph, start_s, finish_s).sum()) / graph.num_ranks


def other_s(graph: StepGraph, finish_s: Floats) -> float:
    """Seconds at the end of a step in which hosts work and no device does. finish_s (n,): of one lane."""
    on_device = graph.dag.resource % NUM_STREAMS != HOST
    return float(finish_s.max() - finish_s[on_device].max())
