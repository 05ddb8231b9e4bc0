"""Where the time of a device goes: by class of kernel, communication exposed and overlapped, idle and why.

At every moment the kernels that run share it: where compute kernels do, evenly among them; else the collectives that run
(exposed communication); else copies from and to the host; else the device is idle. So the classes' seconds sum to the busy
time, and busy and idle time to the window, whatever overlaps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import fsum

import numpy as np
from numpy.typing import NDArray

from hwprofiles.traces.classes import GROUP_OF, GROUPS, Group, class_of
from hwprofiles.traces.trace import Activity, Floats, Ints

COMPUTE, COMMUNICATION, TRANSFER = range(len(GROUPS))


@dataclass(frozen=True, slots=True)
class DeviceTime:
    """Seconds of a window of a device.

    classes: class → its share of the busy time; kernel_s: class → its kernels' durations summed. communication_s: in which
    collectives run, of it exposed_s with no compute beside it. idle_s: in which nothing runs; of it launch_gap_s before the
    host began to launch what comes next, launch_s from there to its start, None where the trace tells no launches.
    """

    window_s: float
    classes: Mapping[str, float]
    kernel_s: Mapping[str, float]
    communication_s: float
    exposed_s: float
    idle_s: float
    launch_gap_s: float | None
    launch_s: float | None

    @property
    def busy_s(self) -> float:
        """In which anything runs."""
        return fsum(self.classes.values())

    @property
    def overlapped_s(self) -> float:
        """Communication with compute beside it."""
        return max(0.0, self.communication_s - self.exposed_s)

    @property
    def compute_s(self) -> float:
        """In which compute kernels run."""
        return fsum(seconds for name, seconds in self.classes.items() if GROUP_OF[name] == "compute")


def classes_of(names: Sequence[str], activity: Activity) -> tuple[tuple[str, ...], Ints]:
    """The classes that occur, sorted, and (n,) the row of each activity's."""
    numbers, place = np.unique(activity.name, return_inverse=True)
    of_name = [class_of(names[number]) for number in numbers]
    found = tuple(sorted(set(of_name)))
    rows = np.array([found.index(each) for each in of_name], dtype=np.int64)
    return found, rows[place] if len(place) else place


def device_time(names: Sequence[str], activity: Activity, begin_s: float, end_s: float) -> DeviceTime:
    """Of one device's activity inside a window. names: `Trace.names`."""
    start, end = np.clip(activity.start_s, begin_s, end_s), np.clip(activity.end_s, begin_s, end_s)
    inside = np.flatnonzero(end > start)
    start, end = start[inside], end[inside]
    found, row = classes_of(names, activity.of(inside))
    groups = [GROUP_OF[name] for name in found]
    shared = shared_time(start, end, row, groups, begin_s, end_s)
    summed = np.bincount(row, end - start, len(found))
    gaps = _launch_gaps(start, end, activity.launch_s[inside], begin_s)
    return DeviceTime(
        window_s=end_s - begin_s,
        classes=dict(zip(found, shared.seconds.tolist(), strict=True)),
        kernel_s=dict(zip(found, summed.tolist(), strict=True)),
        communication_s=shared.of_group[COMMUNICATION],
        exposed_s=shared.exposed_s,
        idle_s=shared.idle_s,
        launch_gap_s=gaps[0] if gaps else None,
        launch_s=gaps[1] if gaps else None,
    )


@dataclass(frozen=True, slots=True)
class Shared:
    """seconds (classes,): of each; of_group: in which any of a group runs; exposed_s: communication without compute; idle_s."""

    seconds: Floats
    of_group: tuple[float, ...]
    exposed_s: float
    idle_s: float


def shared_time(start: Floats, end: Floats, row: Ints, groups: Sequence[Group], begin_s: float, end_s: float) -> Shared:
    """Intervals inside a window, row: their class, groups: of the classes. See the module on how they share the time."""
    moments = np.unique(np.concatenate((start, end, [begin_s, end_s])))
    length = np.diff(moments)
    first, last = np.searchsorted(moments, start), np.searchsorted(moments, end)
    of_group = [np.flatnonzero(np.array([each == group for each in groups], dtype=bool)[row]) for group in GROUPS]
    running = [_running(first[some], last[some], len(length)) for some in of_group]
    is_on = [each > 0 for each in running]
    seconds = np.zeros(len(groups))
    is_free = np.ones(len(length), dtype=bool)
    for count, on, some in zip(running, is_on, of_group, strict=True):
        share = np.where(is_free & on, length / np.maximum(count, 1), 0.0)
        until = np.concatenate(([0.0], np.cumsum(share)))
        seconds += np.bincount(row[some], until[last[some]] - until[first[some]], len(groups))
        is_free &= ~on
    return Shared(
        seconds=seconds,
        of_group=tuple(float(length[on].sum()) for on in is_on),
        exposed_s=float(length[is_on[COMMUNICATION] & ~is_on[COMPUTE]].sum()),
        idle_s=float(length[is_free].sum()),
    )


def _running(first: NDArray[np.intp], last: NDArray[np.intp], count: int) -> Ints:
    """(count,) how many intervals cover each stretch between two moments."""
    change = np.bincount(first, minlength=count + 1) - np.bincount(last, minlength=count + 1)
    return np.cumsum(change)[:count]


def _launch_gaps(start: Floats, end: Floats, launch: Floats, begin_s: float) -> tuple[float, float] | None:
    """Idle seconds before kernels that were not yet being launched when the device fell idle, and from the begin of their
    launch on; None where no launch is known.
    """
    if not len(start) or np.isnan(launch).all():
        return None
    order = np.argsort(start, kind="stable")
    start, end, launch = start[order], end[order], launch[order]
    free = np.concatenate(([begin_s], np.maximum.accumulate(end)[:-1]))
    is_late = (start > free) & (launch > free)
    begun = np.minimum(launch[is_late], start[is_late])
    return float((begun - free[is_late]).sum()), float((start[is_late] - begun).sum())
