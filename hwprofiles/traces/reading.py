"""A trace's file → `Trace`. What it keeps of an event is a few numbers, so that a file of a GB needs far less memory."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

from hwprofiles.traces.columns import Columns, number_of, whole_of
from hwprofiles.traces.events import read_events, refuse
from hwprofiles.traces.trace import NO_NUMBER, Activity, Floats, Ints, Marks, OperatorCalls, Trace
from hwprofiles.units import MICRO, NANO
from hwprofiles.yaml_file import excerpt

OVERLAP_SHARE: Final = 0.01
"""Of a stream's time: more of it in which two kernels run is said (programmatic launches overlap by microseconds)."""
PLAUSIBLE_YEARS: Final = range(2015, 2100)
VERSIONS: Final = {
    "pytorch_version": "torch",
    "torch_version": "torch",
    "cuda_runtime_version": "CUDA",
    "cuda_driver_version": "CUDA driver",
    "hip_runtime_version": "HIP",
}
"""Key of the document → what has that version."""


def read_trace(path: Path) -> Trace:
    """The trace in a file. Raises CatalogError: unreadable, no trace, or nothing of it ran on a GPU."""
    head: dict[str, Any] = {}
    collected = Columns()
    for event in read_events(path, head):
        collected.add(event)
    if not collected.kind:
        refuse(path, _no_kernels(collected))
    return _assembled(path, head, collected)


def _no_kernels(collected: Columns) -> str:
    if collected.bad:
        return f"none of its {collected.bad} kernels has a duration: the trace is damaged; record it again"
    what = "CPU operators, but no kernel" if collected.op_id else "no kernel"
    remedy = "record with activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA], and GPUs in use"
    return f"holds {collected.events} events and of them {what} of a GPU; {remedy}"


def _assembled(path: Path, head: Mapping[str, Any], collected: Columns) -> Trace:
    origin = min(min(collected.start), min(collected.launch_start, default=math.inf))
    origin = min(origin, min(collected.mark_start, default=math.inf))
    activity, shared = _activity(collected, origin)
    info = head.get("distributedInfo")
    info = info if isinstance(info, dict) else {}
    operators = tuple(collected.shapes[call] for call in range(len(collected.shapes)))
    return Trace(
        path=path,
        names=tuple(collected.names.number),
        activity=activity,
        marks=_marks(collected, origin),
        operators=operators,
        calls=_calls(collected, origin),
        device_names=_device_names(head),
        versions={word: _version(head[key]) for key, word in VERSIONS.items() if key in head},
        date=_date(head, origin),
        rank=_rank(info, "rank"),
        world_size=_rank(info, "world_size"),
        launches=len(collected.launch_start),
        warnings=tuple(_warnings(collected, activity, shared)),
    )


def _activity(collected: Columns, origin: float) -> tuple[Activity, int]:
    """Activity by device and start; and how many launches share their number with another process's."""
    start = (np.array(collected.start) - origin) * MICRO
    launch, pid, thread, shared = _launches(collected, origin)
    device = np.array(collected.device)
    unsorted = Activity(
        start_s=start,
        end_s=start + np.array(collected.duration) * MICRO,
        name=np.array(collected.name),
        kind=np.array(collected.kind),
        device=device,
        stream=np.array(collected.stream),
        external=np.array(collected.external),
        launch_s=launch,
        launch_pid=pid,
        launch_thread=thread,
        bytes=np.array(collected.bytes),
    )
    return unsorted.of(np.lexsort((unsorted.end_s, start, device))), shared


def _launches(collected: Columns, origin: float) -> tuple[Floats, Ints, Ints, int]:
    """(n,) start of the call behind each activity, its process and thread, by correlation; numbers that two processes use tell
    nothing, and how many there are of them.
    """
    wanted = np.array(collected.correlation, dtype=np.int64)
    nobody = np.full(len(wanted), NO_NUMBER)
    if not len(collected.launch_start):
        return np.full(len(wanted), np.nan), nobody, nobody, 0
    number, began = np.array(collected.launch_correlation), np.array(collected.launch_start)
    pids, threads = np.array(collected.launch_pid), np.array(collected.launch_thread)
    order = np.lexsort((began, number))
    number, began, pids, threads = number[order], began[order], pids[order], threads[order]
    is_first = np.diff(number, prepend=NO_NUMBER) != 0
    owner = np.cumsum(is_first) - 1
    is_shared = np.zeros(int(is_first.sum()), dtype=bool)
    np.logical_or.at(is_shared, owner, pids != pids[is_first][owner])
    number, began, pids, threads = number[is_first], began[is_first], pids[is_first], threads[is_first]
    found = np.minimum(np.searchsorted(number, wanted), len(number) - 1)
    is_found = (number[found] == wanted) & ~is_shared[found]
    seconds = np.where(is_found, (began[found] - origin) * MICRO, np.nan)
    pids, threads = (np.where(is_found, each[found], NO_NUMBER) for each in (pids, threads))
    return seconds, pids, threads, int(is_shared.sum())


def _marks(collected: Columns, origin: float) -> Marks:
    """Of the CPU; those of devices where the CPU was not recorded."""
    on_device = np.array(collected.mark_on_device, dtype=bool)
    keep = np.flatnonzero(on_device if on_device.all() else ~on_device)
    start = (np.array(collected.mark_start)[keep] - origin) * MICRO
    return Marks(
        name=np.array(collected.mark_name, dtype=np.int64)[keep],
        start_s=start,
        end_s=start + np.array(collected.mark_duration)[keep] * MICRO,
        pid=np.array(collected.mark_pid, dtype=np.int64)[keep],
    )


def _calls(collected: Columns, origin: float) -> OperatorCalls:
    start = (np.array(collected.op_start) - origin) * MICRO
    return OperatorCalls(
        external=np.array(collected.op_id, dtype=np.int64),
        operator=np.array(collected.op_call, dtype=np.int64),
        start_s=start,
        end_s=start + np.array(collected.op_duration) * MICRO,
        thread=np.array(collected.op_thread, dtype=np.int64),
    )


def _device_names(head: Mapping[str, Any]) -> dict[int, str]:
    listed = head.get("deviceProperties")
    found = {}
    for each in listed if isinstance(listed, list) else ():
        if isinstance(each, dict) and isinstance(each.get("name"), str):
            found[whole_of(each.get("id"))] = excerpt(each["name"], 100)
    return found


def _version(value: Any) -> str:
    """CUDA's 13020 is 13.2."""
    found = re.fullmatch(r"(\d{1,3})0(\d)\d", str(value))
    return f"{found[1]}.{found[2]}" if found else excerpt(value, 40)


def _rank(info: Mapping[str, Any], key: str) -> int | None:
    number = whole_of(info.get(key))
    return None if number < 0 else number


def _date(head: Mapping[str, Any], origin: float) -> str:
    """Day of the first event: microseconds since 1970, or since the base that newer profilers state."""
    base = number_of(head.get("baseTimeNanoseconds", 0.0))
    try:
        day = datetime.fromtimestamp(base * NANO + origin * MICRO, UTC)
    except (ValueError, OverflowError, OSError):
        return ""
    return day.date().isoformat() if day.year in PLAUSIBLE_YEARS else ""


def _warnings(collected: Columns, activity: Activity, shared: int) -> list[str]:
    found = []
    if collected.bad:
        found.append(f"{collected.bad} kernels or copies without a duration of at least 0 are left out")
    if shared:
        found.append(
            f"{shared} launches of several processes share their numbers: whose kernels they launched is not known; "
            "give a file a rank"
        )
    double, total = _double_s(activity)
    if total and double > OVERLAP_SHARE * total:
        found.append(
            f"kernels overlap on their stream for {double / total:.1%} of its time: parallel branches of a graph, or times "
            "that are wrong"
        )
    return found


def _double_s(activity: Activity) -> tuple[float, float]:
    """Seconds in which a kernel ran beside one of its own stream, and seconds of all kernels."""
    order = np.lexsort((activity.start_s, activity.stream, activity.device))
    start, end = activity.start_s[order], activity.end_s[order]
    stream, device = activity.stream[order], activity.device[order]
    same = (stream[1:] == stream[:-1]) & (device[1:] == device[:-1])
    double = np.clip(np.minimum(end[:-1], end[1:]) - start[1:], 0.0, None)
    return float(double[same].sum()), float((end - start).sum())
