"""What is kept of a trace's events: columns of numbers, and each operator's call once."""

from __future__ import annotations

import math
import re
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from hwprofiles.traces.events import Event
from hwprofiles.traces.trace import KERNEL, MEMCPY, MEMSET, NO_NUMBER, Operator

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

FARTHEST_US: Final = 2.0**53
"""Of any time, year 2255 as microseconds since 1970: farther off a float leaves microseconds out."""


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
class Columns:
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
        start, duration = time_of(event.get("ts")), time_of(event.get("dur"))
        if not (math.isfinite(start) and math.isfinite(duration) and duration >= 0):
            self.bad += 1
            return
        args = _args(event)
        self.start.append(start)
        self.duration.append(duration)
        self.name.append(self.names.of(str(event.get("name", ""))))
        self.kind.append(kind)
        self.device.append(whole_of(args.get("device", event.get("pid"))))
        self.stream.append(whole_of(args.get("stream", event.get("tid"))))
        self.external.append(_external(args))
        self.correlation.append(whole_of(args.get("correlation")))
        self.bytes.append(max(0, whole_of(args.get("bytes"))))

    def _add_launch(self, event: Event) -> None:
        start, correlation = time_of(event.get("ts")), whole_of(_args(event).get("correlation"))
        if math.isfinite(start) and correlation > 0:
            self.launch_start.append(start)
            self.launch_correlation.append(correlation)
            self.launch_pid.append(whole_of(event.get("pid")))
            self.launch_thread.append(whole_of(event.get("tid")))

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
        self.op_start.append(time_of(event.get("ts")))
        self.op_duration.append(time_of(event.get("dur")))
        self.op_thread.append(whole_of(event.get("tid")))

    def _add_mark(self, event: Event, on_device: bool) -> None:
        start, duration = time_of(event.get("ts")), time_of(event.get("dur"))
        if math.isfinite(start) and math.isfinite(duration) and duration >= 0:
            self.mark_name.append(self.names.of(str(event.get("name", ""))))
            self.mark_start.append(start)
            self.mark_duration.append(duration)
            self.mark_pid.append(whole_of(event.get("pid")))
            self.mark_on_device.append(on_device)


def _args(event: Event) -> Mapping[str, Any]:
    args = event.get("args")
    return args if isinstance(args, dict) else {}


def number_of(value: Any) -> float:
    """NaN for what is no number."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def time_of(value: Any) -> float:
    """Microseconds of an event; NaN for what is no number, or so large that a float does not tell two microseconds apart."""
    number = number_of(value)
    return number if abs(number) <= FARTHEST_US else math.nan


def whole_of(value: Any) -> int:
    """NO_NUMBER for what is no whole number of 64 bits."""
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        return NO_NUMBER
    return number if -(2**63) <= number < 2**63 else NO_NUMBER


def _external(args: Mapping[str, Any]) -> int:
    return whole_of(args.get("External id", args.get("external id")))


def _nested(value: Any) -> tuple[Any, ...]:
    """A list of lists as tuples."""
    return tuple(_nested(each) if isinstance(each, list | tuple) else each for each in value)
