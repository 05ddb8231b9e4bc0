"""What each call of an operator took on the device: its kernels' time, and the backward function that it was part of."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from hwprofiles.traces.classes import GROUP_OF
from hwprofiles.traces.device_time import classes_of
from hwprofiles.traces.intervals import inside, joined
from hwprofiles.traces.steps import windows
from hwprofiles.traces.trace import Activity, Ints, Operator, OperatorCalls, Trace

BACKWARD: Final = re.compile(r"(Backward\d*|autograd::engine::evaluate_function.*)$")
"""Names of the operators that autograd calls for a backward."""
DEEPEST: Final = 50
"""Operators inside one another that are looked through."""


@dataclass(frozen=True, slots=True)
class TimedCall:
    """seconds: of its kernels, one after the other; beside: share of them with a collective on the device. kernels: names.
    of: the backward function around it, None in a forward (also a recomputed one).
    """

    operator: Operator
    of: Operator | None
    seconds: float
    beside: float
    kernels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TimedCalls:
    """unlinked_s: compute seconds of kernels whose operator the trace does not tell; compute_s: of all."""

    calls: tuple[TimedCall, ...]
    unlinked_s: float
    compute_s: float


def timed_calls(trace: Trace) -> TimedCalls:
    """Of all devices, inside the steps of each."""
    found: list[TimedCall] = []
    unlinked = whole = 0.0
    parents = parents_of(trace.calls)
    for device in trace.devices:
        activity = trace.activity.of(trace.activity.device == device)
        steps = windows(trace, activity)
        begin, end = steps[0].begin_s, steps[-1].end_s
        activity = activity.of((activity.start_s >= begin) & (activity.end_s <= end))
        beside = _beside_s(trace, activity)
        places = place_of(trace.calls, parents, activity).tolist()
        of_call = defaultdict(list)
        for row in np.flatnonzero(_in_group(trace, activity, "compute")).tolist():
            of_call[places[row]].append(row)
        for place, rows in of_call.items():
            seconds = float(activity.seconds[rows].sum())
            whole += seconds
            if place < 0 or not seconds:
                unlinked += seconds
                continue
            kernels = tuple(trace.names[activity.name[row]] for row in rows)
            share = float(beside[rows].sum()) / seconds
            of = _backward_of(trace, parents, place)
            found.append(TimedCall(trace.operators[trace.calls.operator[place]], of, seconds, share, kernels))
    return TimedCalls(tuple(found), unlinked, whole)


def parents_of(calls: OperatorCalls) -> Ints:
    """(n,) place of the call that each is directly inside of on its thread, -1 for none."""
    parents = np.full(len(calls.external), -1)
    order = np.lexsort((-calls.end_s, calls.start_s, calls.thread))
    thread, start, end = (each[order].tolist() for each in (calls.thread, calls.start_s, calls.end_s))
    open_: list[int] = []
    for place, number in enumerate(order.tolist()):
        while open_ and (thread[open_[-1]] != thread[place] or end[open_[-1]] <= start[place]):
            open_.pop()
        if open_:
            parents[number] = order[open_[-1]]
        open_.append(place)
    return parents


def place_of(calls: OperatorCalls, parents: Ints, activity: Activity) -> Ints:
    """(n,) the innermost call around the launch of each activity on its thread, -1 where there is none; where no launch is
    known, the call of its External id.
    """
    order = np.lexsort((-calls.end_s, calls.start_s, calls.thread))
    places = np.full(len(activity), -1)
    if not len(order):
        return places
    threads, first = np.unique(calls.thread[order], return_index=True)
    for thread, mine in zip(threads.tolist(), np.split(order, first[1:]), strict=True):
        rows = np.flatnonzero((activity.launch_thread == thread) & ~np.isnan(activity.launch_s))
        before = np.searchsorted(calls.start_s[mine], activity.launch_s[rows], side="right") - 1
        found = np.where(before >= 0, mine[before], -1)
        for _ in range(DEEPEST):
            is_over = (found >= 0) & (calls.end_s[found] < activity.launch_s[rows])
            if not is_over.any():
                break
            found = np.where(is_over, parents[found], found)
        places[rows] = found
    known = dict(zip(calls.external.tolist(), range(len(calls.external)), strict=True))
    for row in np.flatnonzero(np.isnan(activity.launch_s)).tolist():
        places[row] = known.get(int(activity.external[row]), -1)
    return places


def _backward_of(trace: Trace, parents: Ints, place: int) -> Operator | None:
    """The innermost backward function around a call; an operator of the forward inside one (recomputation) hides it."""
    for _ in range(DEEPEST):
        place = int(parents[place])
        if place < 0:
            return None
        operator = trace.operators[trace.calls.operator[place]]
        if BACKWARD.search(operator.name):
            return operator if "Checkpoint" not in operator.name else None
        if operator.name == "aten::linear":
            return None
    return None


def _in_group(trace: Trace, activity: Activity, group: str) -> Sequence[bool]:
    found, row = classes_of(trace.names, activity)
    of_class = np.array([GROUP_OF[name] == group for name in found], dtype=bool)
    return list(of_class[row]) if len(row) else []


def _beside_s(trace: Trace, activity: Activity) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """(n,) seconds of each activity in which a collective runs too."""
    is_moving = np.array(_in_group(trace, activity, "communication"), dtype=bool)
    busy = joined(activity.start_s[is_moving], activity.end_s[is_moving])
    return inside(activity.start_s, activity.end_s, busy)
