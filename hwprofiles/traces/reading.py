"""A trace's file → `Trace`. What it keeps of an event is a few numbers, so that a file of a GB needs far less memory."""

from __future__ import annotations

import math
import re
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

from hwprofiles.traces.events import Event, read_events, refuse
from hwprofiles.traces.trace import (
    KERNEL,
    MEMCPY,
    MEMSET,
    NO_NUMBER,
    Activity,
    Floats,
    Ints,
    Marks,
    Operator,
    OperatorCalls,
    Trace,
)
from hwprofiles.units import MICRO, NANO
from hwprofiles.yaml_file import excerpt

KINDS: Final[Mapping[str, int]] = {
    "kernel": KERNEL, "Kernel": KERNEL, "gpu_memcpy": MEMCPY, "Memcpy": MEMCPY, "gpu_memset": MEMSET, "Memset": MEMSET,
}  # fmt: skip
"""Category of an event, as newer and older profilers write it → kind of what a device runs."""
LAUNCHES: Final = frozenset({"cuda_runtime", "cuda_driver", "Runtime", "hip_runtime", "hip_driver"})
OPERATORS: Final = frozenset({"cpu_op", "Operator"})
MARKS: Final = frozenset({"user_annotation", "gpu_user_annotation"})
ON_DEVICE: Final = "gpu_user_annotation"
WITH_VALUES: Final = re.compile(r"attention|^aten::(sum|mean)$")
"""Names of operators whose values are kept: whether a mask is causal, over which dimensions a sum goes."""
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
    collected = _Collected()
    for event in read_events(path, head):
        collected.add(event)
    if not collected.kind:
        refuse(path, _no_kernels(collected))
    return _assembled(path, head, collected)


def _no_kernels(collected: _Collected) -> str:
    if collected.bad:
        return f"none of its {collected.bad} kernels has a duration: the trace is damaged; record it again"
    what = "CPU operators, but no kernel" if collected.op_id else "no kernel"
    remedy = "record with activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA], and GPUs in use"
    return f"holds {collected.events} events and of them {what} of a GPU; {remedy}"


@dataclass
class _Names:
    """Texts → numbers in the order in which they came."""

    number: dict[Any, int] = field(default_factory=dict)

    def of(self, text: Any) -> int:
        return self.number.setdefault(text, len(self.number))


def _doubles() -> array[float]:
    return array("d")


def _wholes() -> array[int]:
    return array("q")


@dataclass
class _Collected:
    """Columns of numbers, microseconds as the file has them."""

    events: int = 0
    bad: int = 0
    names: _Names = field(default_factory=_Names)
    start: array[float] = field(default_factory=_doubles)
    duration: array[float] = field(default_factory=_doubles)
    name: array[int] = field(default_factory=_wholes)
    kind: array[int] = field(default_factory=_wholes)
    device: array[int] = field(default_factory=_wholes)
    stream: array[int] = field(default_factory=_wholes)
    external: array[int] = field(default_factory=_wholes)
    correlation: array[int] = field(default_factory=_wholes)
    bytes: array[int] = field(default_factory=_wholes)
    launch_start: array[float] = field(default_factory=_doubles)
    launch_correlation: array[int] = field(default_factory=_wholes)
    launch_pid: array[int] = field(default_factory=_wholes)
    launch_thread: array[int] = field(default_factory=_wholes)
    op_id: array[int] = field(default_factory=_wholes)
    op_call: array[int] = field(default_factory=_wholes)
    op_start: array[float] = field(default_factory=_doubles)
    op_duration: array[float] = field(default_factory=_doubles)
    op_thread: array[int] = field(default_factory=_wholes)
    calls: _Names = field(default_factory=_Names)
    shapes: dict[int, Operator] = field(default_factory=dict)
    mark_name: array[int] = field(default_factory=_wholes)
    mark_start: array[float] = field(default_factory=_doubles)
    mark_duration: array[float] = field(default_factory=_doubles)
    mark_pid: array[int] = field(default_factory=_wholes)
    mark_on_device: array[int] = field(default_factory=_wholes)

    def add(self, event: Event) -> None:
        """Keep what matters of an event; everything else is passed over."""
        self.events += 1
        if event.get("ph") != "X":
            return
        category = str(event.get("cat"))
        if category in KINDS:
            self._add_activity(event, KINDS[category])
        elif category in LAUNCHES:
            self._add_launch(event)
        elif category in OPERATORS:
            self._add_operator(event)
        elif category in MARKS:
            self._add_mark(event, category == ON_DEVICE)

    def _add_activity(self, event: Event, kind: int) -> None:
        start, duration = _number(event.get("ts")), _number(event.get("dur"))
        if not (math.isfinite(start) and math.isfinite(duration) and duration >= 0):
            self.bad += 1
            return
        args = _args(event)
        self.start.append(start)
        self.duration.append(duration)
        self.name.append(self.names.of(str(event.get("name", ""))))
        self.kind.append(kind)
        self.device.append(_whole(args.get("device", event.get("pid"))))
        self.stream.append(_whole(args.get("stream", event.get("tid"))))
        self.external.append(_external(args))
        self.correlation.append(_whole(args.get("correlation")))
        self.bytes.append(max(0, _whole(args.get("bytes"))))

    def _add_launch(self, event: Event) -> None:
        start, correlation = _number(event.get("ts")), _whole(_args(event).get("correlation"))
        if math.isfinite(start) and correlation > 0:
            self.launch_start.append(start)
            self.launch_correlation.append(correlation)
            self.launch_pid.append(_whole(event.get("pid")))
            self.launch_thread.append(_whole(event.get("tid")))

    def _add_operator(self, event: Event) -> None:
        args = _args(event)
        external = _external(args)
        if external == NO_NUMBER:
            return
        name = str(event.get("name", ""))
        dims = args.get("Input Dims", args.get("Input dims")) or ()
        types = args.get("Input type") or ()
        strides = args.get("Input Strides") or ()
        values = (args.get("Concrete Inputs") or ()) if WITH_VALUES.search(name) else ()
        call = self.calls.of((name, repr(dims), repr(strides), repr(types), repr(values)))
        if call not in self.shapes:
            told = (_nested(each) if isinstance(each, list) else () for each in (dims, strides, types, values))
            dims, strides, types, values = told
            self.shapes[call] = Operator(name, dims, strides, tuple(map(str, types)), tuple(map(str, values)))
        self.op_id.append(external)
        self.op_call.append(call)
        self.op_start.append(_number(event.get("ts")))
        self.op_duration.append(_number(event.get("dur")))
        self.op_thread.append(_whole(event.get("tid")))

    def _add_mark(self, event: Event, on_device: bool) -> None:
        start, duration = _number(event.get("ts")), _number(event.get("dur"))
        if math.isfinite(start) and math.isfinite(duration) and duration >= 0:
            self.mark_name.append(self.names.of(str(event.get("name", ""))))
            self.mark_start.append(start)
            self.mark_duration.append(duration)
            self.mark_pid.append(_whole(event.get("pid")))
            self.mark_on_device.append(on_device)


def _args(event: Event) -> Mapping[str, Any]:
    args = event.get("args")
    return args if isinstance(args, dict) else {}


def _number(value: Any) -> float:
    """NaN for what is no number."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _whole(value: Any) -> int:
    """NO_NUMBER for what is no whole number of 64 bits."""
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        return NO_NUMBER
    return number if -(2**63) <= number < 2**63 else NO_NUMBER


def _external(args: Mapping[str, Any]) -> int:
    return _whole(args.get("External id", args.get("external id")))


def _nested(value: Any) -> tuple[Any, ...]:
    """A list of lists as tuples."""
    return tuple(_nested(each) if isinstance(each, list | tuple) else each for each in value)


def _assembled(path: Path, head: Mapping[str, Any], collected: _Collected) -> Trace:
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


def _activity(collected: _Collected, origin: float) -> tuple[Activity, int]:
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


def _launches(collected: _Collected, origin: float) -> tuple[Floats, Ints, Ints, int]:
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


def _marks(collected: _Collected, origin: float) -> Marks:
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


def _calls(collected: _Collected, origin: float) -> OperatorCalls:
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
            found[_whole(each.get("id"))] = excerpt(each["name"], 100)
    return found


def _version(value: Any) -> str:
    """CUDA's 13020 is 13.2."""
    found = re.fullmatch(r"(\d{1,3})0(\d)\d", str(value))
    return f"{found[1]}.{found[2]}" if found else excerpt(value, 40)


def _rank(info: Mapping[str, Any], key: str) -> int | None:
    number = _whole(info.get(key))
    return None if number < 0 else number


def _date(head: Mapping[str, Any], origin: float) -> str:
    """Day of the first event: microseconds since 1970, or since the base that newer profilers state."""
    base = _number(head.get("baseTimeNanoseconds", 0.0))
    try:
        day = datetime.fromtimestamp(base * NANO + origin * MICRO, UTC)
    except (ValueError, OverflowError, OSError):
        return ""
    return day.date().isoformat() if day.year in PLAUSIBLE_YEARS else ""


def _warnings(collected: _Collected, activity: Activity, shared: int) -> list[str]:
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
