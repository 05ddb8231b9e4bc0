"""The steps of a trace on each device: by the profiler's marks, by the launches of the kernels inside them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from hwprofiles.traces.trace import NO_NUMBER, Activity, Floats, Ints, Trace

MARK: Final = re.compile(r"ProfilerStep#(\d+)")
"""Annotation that the profiler puts around a step, of its number."""
OPTIMIZER_STEP: Final = "Optimizer.step#"


@dataclass(frozen=True, slots=True)
class Window:
    """A step on a device: seconds since the first event. number: as the profiler counts, None: the trace has no marks and
    is taken as one step. is_open: ends with its last kernel, as no later step tells when it is over.
    """

    number: int | None
    begin_s: float
    end_s: float
    is_open: bool


def windows(trace: Trace, activity: Activity) -> tuple[Window, ...]:
    """The steps of one device (its activity), in order: from a step's first kernel to the first of the next; the last ends with
    its last kernel. Kernels belong to the step in which they were launched.
    """
    numbers, begin, end = _marks_of(trace, activity)
    step = _step_of(activity, begin, end)
    found = [(number, step == place) for place, number in enumerate(numbers) if (step == place).any()]
    if not found:
        return (Window(None, float(activity.start_s.min()), float(activity.end_s.max()), True),)
    starts = [float(activity.start_s[mine].min()) for _, mine in found]
    last = float(activity.end_s[found[-1][1]].max())
    ends = [*starts[1:], last]
    return tuple(
        Window(number, starts[place], ends[place], place == len(found) - 1)
        for place, (number, _) in enumerate(found)
        if ends[place] > starts[place]
    )


def counted(found: tuple[Window, ...]) -> tuple[Window, ...]:
    """The steps that a mean is taken over: without the last of several, whose end no kernel tells."""
    return found if len(found) == 1 else tuple(each for each in found if not each.is_open)


def _marks_of(trace: Trace, activity: Activity) -> tuple[list[int], Floats, Floats]:
    """Number, begin and end of the marks of the process that launched this device's kernels, by begin."""
    marks = trace.marks
    known = activity.launch_pid[activity.launch_pid != NO_NUMBER]
    pids, times = np.unique(known, return_counts=True)
    pid = int(pids[times.argmax()]) if len(pids) else None
    rows = []
    for row, name in enumerate(marks.name.tolist()):
        match = MARK.fullmatch(trace.names[name])
        if match and (pid is None or marks.pid[row] == pid or pid not in marks.pid):
            rows.append((float(marks.start_s[row]), float(marks.end_s[row]), int(match.group(1))))
    unique = sorted({number: (begin, end, number) for begin, end, number in sorted(rows, reverse=True)}.values())
    return (
        [number for _, _, number in unique],
        np.array([begin for begin, _, _ in unique]),
        np.array([end for _, end, _ in unique]),
    )


def _step_of(activity: Activity, begin: Floats, end: Floats) -> Ints:
    """(n,) place of the mark in which each activity was launched, -1 for none; where no launch is known, it started."""
    if not len(begin):
        return np.full(len(activity), -1)
    moment = np.where(np.isnan(activity.launch_s), activity.start_s, activity.launch_s)
    place = np.searchsorted(begin, moment, side="right") - 1
    return np.where((place >= 0) & (moment < end[np.maximum(place, 0)]), place, -1)


def step_warnings(trace: Trace, found: tuple[Window, ...]) -> Iterator[str]:
    """What to mind of the steps."""
    if found[0].number is None:
        names = [trace.names[name] for name in trace.marks.name.tolist()]
        times = max((names.count(name) for name in set(names) if name.startswith(OPTIMIZER_STEP)), default=0)
        if times > 1:
            yield (
                f"holds no marks of steps and {times} calls of an optimizer's step: all of it is taken as one step; call "
                "profiler.step() after each"
            )
    elif len(found) > 1:
        yield f"the last of its {len(found)} steps is not counted: nothing behind it tells when it ended"
