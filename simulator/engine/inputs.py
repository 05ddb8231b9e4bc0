"""What every engine demands of a graph and its durations before it starts: whoever runs, runs sound numbers."""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakSet

import numpy as np

from simulator.engine.dag import FloatArray, StepDag
from simulator.errors import InconsistentSimulation

INFINITE = np.float64(np.inf).view(np.uint64)
"""Bits of infinity, as a whole number."""

_sound_dags: WeakSet[StepDag] = WeakSet()
_topological_dags: WeakSet[StepDag] = WeakSet()


def check_dag(dag: StepDag) -> None:
    """Raises InconsistentSimulation where an array has the wrong length or an index outside its table, or where an
    operator does not wait for the previous one of its resource. Does not ask whether the order is topological.

    O(n + edges); a graph that passed is not checked again (its arrays do not change).
    """
    if dag in _sound_dags:
        return
    num_ops = dag.num_ops
    for name in ("op_class", "resource", "draw_row", "is_join"):
        if getattr(dag, name).shape != (num_ops,):
            raise InconsistentSimulation(f"step graph: {name} has shape {getattr(dag, name).shape}, not ({num_ops},)")
    ptr = dag.pred_ptr
    if ptr.shape != (num_ops + 1,) or ptr[0] != 0 or ptr[-1] != len(dag.pred) or np.any(np.diff(ptr) < 0):
        raise InconsistentSimulation("step graph: pred_ptr does not rise from 0 to the number of edges")
    for name, low, size in (
        ("op_class", 0, dag.num_classes),
        ("resource", 0, dag.num_resources),
        ("draw_row", -1, dag.num_draw_rows),
        ("pred", 0, num_ops),
    ):
        values = getattr(dag, name)
        if values.size and (values.min() < low or values.max() >= size):
            raise InconsistentSimulation(f"step graph: {name} has an entry outside {low} to {size - 1}")
    _check_stream_order(dag)
    _sound_dags.add(dag)


def previous_on_resource(dag: StepDag) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """(n,): the operator that runs before on the same resource, -1 for the first."""
    order = np.argsort(dag.resource, kind="stable")
    previous = np.full(dag.num_ops, -1, dtype=np.int64)
    same = dag.resource[order[1:]] == dag.resource[order[:-1]]
    previous[order[1:][same]] = order[:-1][same]
    return previous


def _check_stream_order(dag: StepDag) -> None:
    previous = previous_on_resource(dag)
    owner = np.repeat(np.arange(dag.num_ops), np.diff(dag.pred_ptr))
    waits = previous < 0
    waits[owner[dag.pred == previous[owner]]] = True
    if not waits.all():
        op = int(np.argmin(waits))
        raise InconsistentSimulation(
            f"step graph: operator {op} does not wait for operator {previous[op]}, which runs before it on resource "
            f"{dag.resource[op]}"
        )


def check_topological(dag: StepDag) -> None:
    """Raises InconsistentSimulation, with the wait-for cycle if there is one, where a predecessor comes later."""
    if dag in _topological_dags:
        return
    owner = np.repeat(np.arange(dag.num_ops), np.diff(dag.pred_ptr))
    late = dag.pred >= owner
    if not late.any():
        _topological_dags.add(dag)
        return
    unfinished = _never_ready(dag)
    if unfinished.any():
        raise InconsistentSimulation(describe_deadlock(dag, wait_for_cycle(dag, unfinished)))
    edge = int(np.argmax(late))
    raise InconsistentSimulation(
        f"step graph: operator {owner[edge]} waits for operator {dag.pred[edge]}, which comes later in the arrays"
    )


def _never_ready(dag: StepDag) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """(n,): operators that no order of execution reaches."""
    owner = np.repeat(np.arange(dag.num_ops), np.diff(dag.pred_ptr))
    successors: list[list[int]] = [[] for _ in range(dag.num_ops)]
    for op, pred in zip(owner.tolist(), dag.pred.tolist(), strict=True):
        successors[pred].append(op)
    missing = np.diff(dag.pred_ptr).tolist()
    ready = [op for op, count in enumerate(missing) if count == 0]
    blocked = np.ones(dag.num_ops, dtype=np.bool_)
    while ready:
        op = ready.pop()
        blocked[op] = False
        for successor in successors[op]:
            missing[successor] -= 1
            if missing[successor] == 0:
                ready.append(successor)
    return blocked


def wait_for_cycle(dag: StepDag, unfinished: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> list[int]:
    """Operators of which each waits for the next, the last for the first. `unfinished` (n,): what never ran."""
    previous = previous_on_resource(dag)
    op = int(np.argmax(unfinished))
    position: dict[int, int] = {}
    path: list[int] = []
    while op not in position:
        position[op] = len(path)
        path.append(op)
        waits_for = [*dag.pred[dag.pred_ptr[op] : dag.pred_ptr[op + 1]].tolist(), int(previous[op])]
        op = next(pred for pred in waits_for if pred >= 0 and unfinished[pred])
    return path[position[op] :]


def describe_deadlock(dag: StepDag, cycle: Sequence[int]) -> str:
    """The cycle in words, with the resource of each operator."""
    names = [f"operator {op} (resource {dag.resource[op]})" for op in cycle]
    return "deadlock: " + " waits for ".join([*names, names[0]])


def check_durations(dag: StepDag, class_seconds: FloatArray, draws: FloatArray | None) -> tuple[FloatArray, FloatArray]:
    """(class_seconds, draws) as contiguous float64; draws (num_draw_rows, lanes), one lane of ones for None.

    Raises InconsistentSimulation where a shape is wrong, or a duration is negative, NaN or infinite.
    """
    seconds = np.ascontiguousarray(class_seconds, dtype=np.float64)
    if seconds.shape != (dag.num_classes,):
        raise InconsistentSimulation(f"class_seconds has shape {seconds.shape}, not ({dag.num_classes},)")
    if draws is None:
        draws = np.ones((dag.num_draw_rows, 1))
    draws = np.ascontiguousarray(draws, dtype=np.float64)
    if draws.ndim != 2 or draws.shape[0] != dag.num_draw_rows or draws.shape[1] < 1:
        raise InconsistentSimulation(f"draws have shape {draws.shape}, not ({dag.num_draw_rows}, lanes)")
    longest = largest_of("seconds of class", seconds) * max(1.0, largest_of("draws of row", draws))
    if not np.isfinite(longest * dag.num_ops):
        raise InconsistentSimulation(f"durations up to {longest} seconds in {dag.num_ops} operators overflow")
    return seconds, draws


def largest_of(what: str, values: FloatArray) -> float:
    """The largest value, 0 of none; all must be finite and at least 0.

    In one pass: the bits of such numbers, read as whole ones, are in their order, and below those of all others.
    """
    if not values.size:
        return 0.0
    largest = values.reshape(-1).view(np.uint64).max()
    if largest < INFINITE:
        return float(largest.view(np.float64))
    bad = ~(np.isfinite(values) & (values >= 0))
    if bad.any():  # else the negative zero
        position = np.unravel_index(int(np.argmax(bad)), values.shape)
        raise InconsistentSimulation(f"{what} {position[0]} is {values[position]}; must be finite and at least 0")
    return float(values.max())
