"""What a step may not lose or invent, checked in every run: actions, FLOP, routed rows, time."""

from __future__ import annotations

from math import isclose

import numpy as np
from numpy.typing import NDArray

from simulator import portable
from simulator.assembly.shapes import DRAW_OFFSET, ROWS_PER_UNIT
from simulator.assembly.step_graph import StepGraph, of_operators
from simulator.errors import InconsistentSimulation
from simulator.workload.op import Workload

Floats = NDArray[np.float64]

TOLERANCE = 1e-9
"""Relative, without unit: rounding of sums of some 10^5 floats, far above their 1e-12."""


def check_graph(graph: StepGraph, workload: Workload, like: StepGraph | None = None) -> None:
    """Raises InconsistentSimulation unless every stage does one F and one B (or I and W) of every micro-batch, the
    actions' operators are the graph's, each once, and their FLOP are those counted.

    like: a graph that was checked, whose very actions and operators need no second look.
    """
    if like is None or graph.actions is not like.actions or graph.spans is not like.spans:
        _check_actions(graph, workload)
    counted = graph.num_micro_batches * workload.flop
    times = np.bincount(graph.dag.op_class, minlength=graph.dag.num_classes)
    executed = portable.dot(times.astype(np.float64), np.array([segment.flop for segment in graph.classes]))
    if not isclose(executed, counted, rel_tol=TOLERANCE):
        raise InconsistentSimulation(f"the graph executes {executed} FLOP, but {counted} were counted")


def _check_actions(graph: StepGraph, workload: Workload) -> None:
    shape = (len(workload.stages), graph.num_micro_batches)
    done = {kind: np.zeros(shape, dtype=np.int64) for kind in ("F", "B", "I", "W")}
    for action in graph.actions:
        for kind, stage, micro_batch in action.halves():
            done[kind][stage, micro_batch] += 1
    for what, times in (("F", done["F"]), ("B or I", done["B"] + done["I"]), ("B or W", done["B"] + done["W"])):
        if (times != 1).any():
            stage, micro_batch = (int(i) for i in np.argwhere(times != 1)[0])
            raise InconsistentSimulation(
                f"stage {stage} does {int(times[stage, micro_batch])} passes {what} of micro-batch {micro_batch}, not one"
            )
    first, last = graph.spans.first, graph.spans.last
    if not np.array_equal(np.concatenate((first, [graph.tail_first])), np.concatenate(([0], last))):
        raise InconsistentSimulation("the actions' operators overlap or leave a gap in the graph")


def check_loads(draws: Floats) -> None:
    """Raises InconsistentSimulation unless every MoE layer's ranks receive in sum what was sent to them.

    draws: (load rows, lanes) load over mean load, as in StepGraph.
    """
    lanes = draws.shape[1]
    received = np.einsum("ul->u", draws.reshape(-1, ROWS_PER_UNIT, lanes)[:, DRAW_OFFSET["rank"]])
    worst = float(np.abs(received / lanes - 1.0).max(initial=0.0))
    if not worst <= TOLERANCE:
        raise InconsistentSimulation(f"the rows that an expert group receives are off by a share of {worst}")


def check_times(graph: StepGraph, multipliers: Floats, typical_s: float, step_s: Floats) -> None:
    """Raises InconsistentSimulation where a step is shorter than its busiest stream, or than the step of its mean durations.

    multipliers: (draw rows,) means over lanes and draws; typical_s: the step of one lane with these; step_s: of each draw.
    Any path is on average as long as under the mean durations, and no step is shorter than a path in it.
    """
    seconds = graph.class_seconds()[graph.dag.op_class] * of_operators(graph, multipliers)
    busiest = float(np.bincount(graph.dag.resource, weights=seconds).max(initial=0.0))
    for what, bound, found in (
        ("its busiest stream", busiest, typical_s),
        ("the step of mean durations", typical_s, float(step_s.mean())),
    ):
        if not found >= bound * (1.0 - TOLERANCE):
            raise InconsistentSimulation(f"a step of {found} s is shorter than {what}, {bound} s")
