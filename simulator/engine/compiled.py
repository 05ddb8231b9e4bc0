"""The loops that numba compiles (once; the machine code is cached on disk). Imported only when something is swept.

All arrays are C-contiguous. IEEE order is kept (no fast-math), so that results equal the reference bit for bit. Loops over
lanes are vectorised. Compiled code holds no lock of Python, so that draws run on threads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba import types
from numpy.typing import NDArray

from simulator.engine.dag import FloatArray, IntArray

Bools = NDArray[np.bool_]

# Inputs are declared read-only: a caller may freeze his arrays, and writable ones are accepted too.
INTS = types.Array(types.int32, 1, "C", readonly=True)
BOOLS = types.Array(types.boolean, 1, "C", readonly=True)
ROW = types.Array(types.float64, 1, "C", readonly=True)
TABLE = types.Array(types.float64, 2, "C", readonly=True)
ROW_OUT, TABLE_OUT = types.float64[::1], types.float64[:, ::1]
INTS_OUT, BOOLS_OUT = types.int32[::1], types.boolean[::1]


def compile_loop(signature: Any, function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiled for one signature; the machine code is cached on disk where that can be written."""
    compiled: Callable[..., Any]
    try:
        compiled = numba.njit(signature, cache=True, nogil=True)(function)
    except RuntimeError:  # no folder for the cache is writable: compile in memory
        compiled = numba.njit(signature, nogil=True)(function)
    return compiled


def _sweep_scalar(
    op_class: IntArray, pred_ptr: IntArray, pred: IntArray, draw_row: IntArray,
    seconds: FloatArray, draws: FloatArray, start: FloatArray, finish: FloatArray,
) -> None:  # fmt: skip
    """One lane: a join is an ordinary operator. draws (rows,), start and finish (n,) are written."""
    for op in range(len(op_class)):
        ready = 0.0
        for edge in range(pred_ptr[op], pred_ptr[op + 1]):
            other = finish[pred[edge]]
            ready = other if other > ready else ready
        start[op] = ready
        row = draw_row[op]
        finish[op] = ready + (seconds[op_class[op]] if row < 0 else seconds[op_class[op]] * draws[row])


def _latest(values: FloatArray) -> float:
    """The maximum, by four chains that the processor follows at once."""
    a = b = c = d = 0.0
    fours = len(values) // 4 * 4
    for i in range(0, fours, 4):
        a = values[i] if values[i] > a else a
        b = values[i + 1] if values[i + 1] > b else b
        c = values[i + 2] if values[i + 2] > c else c
        d = values[i + 3] if values[i + 3] > d else d
    for i in range(fours, len(values)):
        a = values[i] if values[i] > a else a
    return max(max(a, b), max(c, d))


latest = compile_loop(types.float64(ROW), _latest)


def _plan_slots(pred_ptr: IntArray, pred: IntArray, slot: IntArray, is_sink: Bools) -> int:
    """Which row of a small table holds an operator's finish until its last successor has read it.

    Writes slot (n,) and is_sink (n,): operators without a successor. Returns the number of rows.
    """
    num_ops = len(slot)
    num_uses = np.zeros(num_ops, dtype=np.int32)
    for edge in range(len(pred)):
        num_uses[pred[edge]] += 1
    free = np.empty(num_ops, dtype=np.int32)
    num_free = 0
    num_slots = 0
    for op in range(num_ops):
        if num_free > 0:
            num_free -= 1
            slot[op] = free[num_free]
        else:
            slot[op] = num_slots
            num_slots += 1
        for edge in range(pred_ptr[op], pred_ptr[op + 1]):
            num_uses[pred[edge]] -= 1
            if num_uses[pred[edge]] == 0:
                free[num_free] = slot[pred[edge]]
                num_free += 1
        is_sink[op] = num_uses[op] == 0
        if is_sink[op]:
            free[num_free] = slot[op]
            num_free += 1
    return num_slots


def _sweep_slots(
    op_class: IntArray, pred_ptr: IntArray, pred_slot: IntArray, draw_row: IntArray, is_join: Bools,
    slot: IntArray, is_sink: Bools, out_row: IntArray, seconds: FloatArray, draws: FloatArray,
    finish: FloatArray, out_start: FloatArray, out_finish: FloatArray,
) -> float:  # fmt: skip
    """All lanes in a table that fits the cache; returns the makespan.

    draws (rows, lanes). finish (num_slots, lanes) is scratch; pred_slot (edges,) are the slots of the predecessors. Operators
    with out_row[op] >= 0 leave their times in that row of out_start and out_finish (subset, lanes).
    One loop, whose rows are named by indices: a call or a view of a row for each operator costs more than its lanes do.
    """
    lanes = finish.shape[1]
    ready = np.empty(lanes)
    makespan = 0.0
    for op in range(len(op_class)):
        first, last = pred_ptr[op], pred_ptr[op + 1]
        if first == last:
            for lane in range(lanes):
                ready[lane] = 0.0
        else:
            one = pred_slot[first]
            two = pred_slot[first + 1] if first + 1 < last else one
            for lane in range(lanes):
                ready[lane] = finish[two, lane] if finish[two, lane] > finish[one, lane] else finish[one, lane]
            for edge in range(first + 2, last):
                other = pred_slot[edge]
                for lane in range(lanes):
                    ready[lane] = finish[other, lane] if finish[other, lane] > ready[lane] else ready[lane]
        if is_join[op]:
            together = latest(ready)
            for lane in range(lanes):
                ready[lane] = together
        own, row, kept, duration = slot[op], draw_row[op], out_row[op], seconds[op_class[op]]
        if row < 0:
            for lane in range(lanes):
                finish[own, lane] = ready[lane] + duration
        else:
            for lane in range(lanes):
                finish[own, lane] = ready[lane] + duration * draws[row, lane]
        if kept >= 0:
            for lane in range(lanes):
                out_start[kept, lane], out_finish[kept, lane] = ready[lane], finish[own, lane]
        if is_sink[op]:
            makespan = max(makespan, latest(finish[own]))
    return makespan


_GRAPH = (INTS, INTS, INTS, INTS)

sweep_scalar = compile_loop(types.void(*_GRAPH, ROW, ROW, ROW_OUT, ROW_OUT), _sweep_scalar)
plan_slots = compile_loop(types.int64(INTS, INTS, INTS_OUT, BOOLS_OUT), _plan_slots)
sweep_slots = compile_loop(
    types.float64(*_GRAPH, BOOLS, INTS, BOOLS, INTS, ROW, TABLE, TABLE_OUT, TABLE_OUT, TABLE_OUT),
    _sweep_slots,
)
