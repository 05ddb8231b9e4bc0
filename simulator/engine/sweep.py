"""The fast engine: the longest path through the graph in one compiled pass, exact for a static order of actions."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from simulator.engine.dag import FloatArray, IntArray, StepDag, Timeline
from simulator.engine.inputs import check_dag, check_durations, check_topological, largest_of
from simulator.errors import InconsistentSimulation


@dataclass(frozen=True, eq=False)
class _Prepared:
    """A graph as the compiled loops want it, checked: int32, contiguous; and its slots (see compiled.plan_slots)."""

    op_class: IntArray
    pred_ptr: IntArray
    pred: IntArray
    draw_row: IntArray
    is_join: NDArray[np.bool_]
    slot: IntArray
    pred_slot: IntArray
    is_sink: NDArray[np.bool_]
    num_slots: int


_prepared: WeakKeyDictionary[StepDag, _Prepared] = WeakKeyDictionary()


@dataclass(frozen=True, eq=False)
class BatchTimes:
    """What a batch of draws leaves: makespan_s (draws,), the latest finish of each draw.

    start_s, finish_s (draws, len(subset), lanes): seconds from the start of the step, of the chosen operators.
    """

    makespan_s: FloatArray
    start_s: FloatArray
    finish_s: FloatArray


def _prepare(dag: StepDag) -> _Prepared:
    """Checks and prepares a graph once. Raises InconsistentSimulation."""
    found = _prepared.get(dag)
    if found is not None:
        return found
    from simulator.engine import compiled

    check_dag(dag)
    check_topological(dag)
    pred_ptr = np.ascontiguousarray(dag.pred_ptr, dtype=np.int32)
    pred = np.ascontiguousarray(dag.pred, dtype=np.int32)
    slot = np.empty(dag.num_ops, dtype=np.int32)
    is_sink = np.empty(dag.num_ops, dtype=np.bool_)
    num_slots = compiled.plan_slots(pred_ptr, pred, slot, is_sink)
    prepared = _Prepared(
        op_class=np.ascontiguousarray(dag.op_class, dtype=np.int32),
        pred_ptr=pred_ptr,
        pred=pred,
        draw_row=np.ascontiguousarray(dag.draw_row, dtype=np.int32),
        is_join=np.ascontiguousarray(dag.is_join, dtype=np.bool_),
        slot=slot,
        pred_slot=slot[pred],
        is_sink=is_sink,
        num_slots=num_slots,
    )
    _prepared[dag] = prepared
    return prepared


def sweep(dag: StepDag, class_seconds: FloatArray, draws: FloatArray | None = None) -> Timeline:
    """Start and finish of every operator in every lane, in seconds; equal to simulate_reference bit for bit.

    class_seconds (num_classes,), draws (num_draw_rows, lanes) or None for one lane without variation.
    Raises InconsistentSimulation for an unsound or cyclic graph, or a duration that is negative, NaN or infinite.
    Holds 16 bytes an operator and lane; `sweep_batch` holds only what is asked for.
    """
    prepared = _prepare(dag)
    class_seconds, draws = check_durations(dag, class_seconds, draws)
    from simulator.engine import compiled

    shape = (dag.num_ops, draws.shape[1])
    start, finish = np.empty(shape), np.empty(shape)
    if draws.shape[1] == 1:
        compiled.sweep_scalar(
            prepared.op_class, prepared.pred_ptr, prepared.pred, prepared.draw_row,
            class_seconds, draws.reshape(-1), start.reshape(-1), finish.reshape(-1),
        )  # fmt: skip
    else:
        _sweep_slots(prepared, np.arange(dag.num_ops, dtype=np.int32), class_seconds, draws, start, finish)
    return Timeline(start, finish)


def sweep_batch(
    dag: StepDag,
    class_seconds: FloatArray,
    draws_batch: FloatArray,
    subset: IntArray | None = None,
    num_threads: int | None = None,
) -> BatchTimes:
    """Several draws of one graph, each bit for bit what `sweep` gives: makespans, and the times of some operators.

    class_seconds (num_classes,), or (num_draws, num_classes) where each draw has its own.
    draws_batch (num_draws, num_draw_rows, lanes). subset: distinct indices of operators, none by default.
    num_threads: draws are spread over so many threads, by default one a processor.
    Raises InconsistentSimulation as `sweep` does, ValueError for a subset outside the graph or with a repetition.
    """
    prepared = _prepare(dag)
    if draws_batch.ndim != 3:
        raise InconsistentSimulation(f"draws_batch has shape {draws_batch.shape}, not (draws, draw rows, lanes)")
    num_draws, _, lanes = draws_batch.shape
    if class_seconds.ndim not in (1, 2) or (class_seconds.ndim == 2 and len(class_seconds) != num_draws):
        raise InconsistentSimulation(f"class_seconds has shape {class_seconds.shape} for {num_draws} draws")
    subset = np.empty(0, dtype=np.int32) if subset is None else subset
    out_row = _output_rows(subset, dag.num_ops)
    times = BatchTimes(np.zeros(num_draws), *(np.empty((num_draws, len(subset), lanes)) for _ in range(2)))

    def run_draw(draw: int) -> None:
        seconds, draws = check_durations(
            dag, class_seconds if class_seconds.ndim == 1 else class_seconds[draw], draws_batch[draw]
        )
        kept = times.start_s[draw], times.finish_s[draw]
        times.makespan_s[draw] = _sweep_slots(prepared, out_row, seconds, draws, *kept)

    threads = min(num_draws, num_threads or os.cpu_count() or 1)
    if threads <= 1:
        for draw in range(num_draws):
            run_draw(draw)
        return times
    # Threads of Python around compiled code without the lock, not numba's own: those abort after a fork and when two
    # threads of a server enter at once, and bring nothing more for pieces as large as a draw.
    with ThreadPoolExecutor(max_workers=threads) as pool:
        list(pool.map(run_draw, range(num_draws)))
    return times


def _sweep_slots(
    prepared: _Prepared,
    out_row: IntArray,
    seconds: FloatArray,
    draws: FloatArray,
    start: FloatArray,
    finish: FloatArray,
) -> float:
    """One draw; returns its makespan. Operators with out_row (n,) >= 0 leave their times in that row of start and finish."""
    from simulator.engine import compiled

    makespan_s: float = compiled.sweep_slots(
        prepared.op_class, prepared.pred_ptr, prepared.pred_slot, prepared.draw_row, prepared.is_join,
        prepared.slot, prepared.is_sink, out_row, seconds, draws,
        np.empty((prepared.num_slots, draws.shape[1])), start, finish,
    )  # fmt: skip
    return makespan_s


def sweep_tables(dag: StepDag, tables: FloatArray) -> FloatArray:
    """(lanes,) makespans of one graph under as many class tables, (num_classes, lanes) seconds: each bit for bit that of
    `sweep` with its own table and no draws.

    Raises InconsistentSimulation for tables of another shape, and for seconds that are not finite or below 0.
    """
    prepared = _prepare(dag)
    if tables.ndim != 2 or len(tables) != dag.num_classes:
        raise InconsistentSimulation(f"tables have shape {tables.shape}, not ({dag.num_classes}, lanes)")
    largest_of("seconds of class", tables)
    sinks = np.flatnonzero(prepared.is_sink).astype(np.int32)
    out_row = _output_rows(sinks, dag.num_ops)
    # A class is a row of draws on one operator class of a second: a lane has its own seconds, and meets no other.
    one, no_join = np.zeros(dag.num_ops, dtype=np.int32), np.zeros(dag.num_ops, dtype=np.bool_)
    of_rows = replace(prepared, op_class=one, draw_row=prepared.op_class, is_join=no_join)
    start, finish = np.empty((2, len(sinks), tables.shape[1]))
    _sweep_slots(of_rows, out_row, np.ones(1), np.ascontiguousarray(tables), start, finish)
    found: FloatArray = finish.max(axis=0, initial=0.0)
    return found


def _output_rows(subset: IntArray, num_ops: int) -> IntArray:
    """(n,): the position of an operator in the subset, -1 where it is not in it."""
    if subset.size and (subset.min() < 0 or subset.max() >= num_ops):
        raise ValueError(f"subset has an operator outside 0 to {num_ops - 1}")
    if len(np.unique(subset)) != len(subset):
        raise ValueError("subset names an operator twice")
    out_row = np.full(num_ops, -1, dtype=np.int32)
    out_row[subset] = np.arange(len(subset), dtype=np.int32)
    return out_row
