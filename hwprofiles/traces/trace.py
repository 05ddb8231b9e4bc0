"""A trace as arrays: what ran on the devices, what launched it, the CPU operators behind it, marks of steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

KERNEL, MEMCPY, MEMSET = 0, 1, 2
"""Kinds of what a device runs."""
NO_NUMBER: Final = -1
"""Stands for a correlation, an External id, a stream that an event does not have."""


@dataclass(frozen=True, slots=True)
class Operator:
    """What a CPU operator was called with: dims, strides, types and values of its inputs as the profiler writes them; empty
    where the trace recorded none (record_shapes=False). values: only of operators whose sizes need them.
    """

    name: str
    dims: tuple[Any, ...] = ()
    strides: tuple[Any, ...] = ()
    types: tuple[str, ...] = ()
    values: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Activity:
    """n kernels, copies and fills of all devices, by device and start.

    start_s, end_s: seconds since the first event. name: row of Trace.names. kind: KERNEL, MEMCPY or MEMSET. external: the
    CPU operator's External id (in older traces the correlation). launch_s: when the host began the call that launched it, NaN
    where the trace does not tell; launch_pid, launch_thread: who did. bytes: of copies and fills, 0 where not told.
    """

    start_s: Floats
    end_s: Floats
    name: Ints
    kind: Ints
    device: Ints
    stream: Ints
    external: Ints
    launch_s: Floats
    launch_pid: Ints
    launch_thread: Ints
    bytes: Ints

    def of(self, keep: NDArray[Any]) -> Activity:
        """The part that a mask or an index picks."""
        return Activity(**{each.name: getattr(self, each.name)[keep] for each in fields(self)})

    @property
    def seconds(self) -> Floats:
        """(n,) durations."""
        return self.end_s - self.start_s

    def __len__(self) -> int:
        return len(self.start_s)


@dataclass(frozen=True, eq=False)
class Marks:
    """Annotations of the program on the CPU: name (row of Trace.names), seconds since the first event, process."""

    name: Ints
    start_s: Floats
    end_s: Floats
    pid: Ints


@dataclass(frozen=True, eq=False)
class OperatorCalls:
    """n calls of CPU operators: External id, row of Trace.operators, seconds since the first event, thread."""

    external: Ints
    operator: Ints
    start_s: Floats
    end_s: Floats
    thread: Ints


@dataclass(frozen=True, eq=False)
class Trace:
    """One file. names: of kernels and annotations. operators: each as it was called; calls: when.

    device_names: of each device id as its properties say it. rank, world_size: None where the file has no distributedInfo.
    date: of the recording (ISO), "" where the file does not tell it. warnings: what was left out or looks wrong, a line each.
    """

    path: Path
    names: tuple[str, ...]
    activity: Activity
    marks: Marks
    operators: tuple[Operator, ...]
    calls: OperatorCalls
    device_names: Mapping[int, str]
    versions: Mapping[str, str]
    date: str = ""
    rank: int | None = None
    world_size: int | None = None
    launches: int = 0
    warnings: tuple[str, ...] = ()

    @property
    def devices(self) -> tuple[int, ...]:
        """Ids of the devices that ran something, ascending."""
        return tuple(np.unique(self.activity.device).tolist())

    @property
    def has_shapes(self) -> bool:
        """Whether operators were recorded with sizes."""
        return any(each.dims for each in self.operators)
