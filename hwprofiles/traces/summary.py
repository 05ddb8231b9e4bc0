"""A mean step of every device of one or several traces."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import fsum
from pathlib import Path
from typing import Final

import numpy as np

from hwprofiles.problem import Problem
from hwprofiles.record_file import CatalogError
from hwprofiles.traces.classes import OTHER, class_of
from hwprofiles.traces.device_time import DeviceTime, device_time
from hwprofiles.traces.reading import read_trace
from hwprofiles.traces.steps import Window, counted, step_warnings, windows
from hwprofiles.traces.trace import Trace
from hwprofiles.yaml_file import excerpt

NUM_UNKNOWN: Final = 10
"""Most names of unclassified kernels that are listed."""


@dataclass(frozen=True, slots=True)
class DeviceSteps:
    """The steps of one device. rank: of the file's distributedInfo, else the device's place among all that are summarised.

    mean: over the counted steps. num_steps: how many these are, of how many in the trace. unknown: names of kernels of class
    OTHER → seconds a step, the longest first.
    """

    file: str
    device: int
    rank: int
    gpu: str
    mean: DeviceTime
    num_steps: int
    num_in_trace: int
    unknown: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class TraceSummary:
    """All devices of the given files. world_size: as the files say it, None where they do not or disagree."""

    devices: tuple[DeviceSteps, ...]
    gpus: tuple[str, ...]
    world_size: int | None
    has_ranks: bool
    warnings: tuple[str, ...]


def summarise(paths: Sequence[Path]) -> TraceSummary:
    """Reads the files one by one. Raises CatalogError as read_trace does, of all files at once."""
    devices: list[DeviceSteps] = []
    warnings: list[str] = []
    sizes: set[int | None] = set()
    ranks: list[int | None] = []
    problems: list[Problem] = []
    for path in paths:
        try:
            trace = read_trace(path)
        except CatalogError as error:
            problems += error.problems
            continue
        found, told = devices_of(trace, len(devices))
        devices += found
        warnings += [f"{excerpt(path.name, 100)}: {line}" for line in dict.fromkeys((*trace.warnings, *told))]
        sizes.add(trace.world_size)
        ranks.append(trace.rank if len(found) == 1 else None)
    if problems:
        raise CatalogError(problems)
    has_ranks = None not in ranks and len(set(ranks)) == len(ranks)
    gpus = tuple(dict.fromkeys(each.gpu for each in devices if each.gpu))
    return TraceSummary(
        tuple(devices), gpus, sizes.pop() if len(sizes) == 1 else None, has_ranks, tuple(warnings)
    )  # fmt: skip


def devices_of(trace: Trace, first: int) -> tuple[list[DeviceSteps], list[str]]:
    """A mean step of each device of a trace, and what to mind. first: how many devices stand before them."""
    found: list[DeviceSteps] = []
    warnings: list[str] = []
    for place, device in enumerate(trace.devices):
        activity = trace.activity.of(trace.activity.device == device)
        steps = windows(trace, activity)
        warnings += step_warnings(trace, steps)
        used = counted(steps)
        times = [device_time(trace.names, activity, each.begin_s, each.end_s) for each in used]
        found.append(
            DeviceSteps(
                file=trace.path.name,
                device=device,
                rank=trace.rank if trace.rank is not None and len(trace.devices) == 1 else first + place,
                gpu=trace.device_names.get(device, ""),
                mean=mean_time(times),
                num_steps=len(used),
                num_in_trace=len(steps),
                unknown=_unknown(trace, device, used),
            )
        )
    return found, warnings


def _unknown(trace: Trace, device: int, used: Sequence[Window]) -> dict[str, float]:
    activity = trace.activity.of(trace.activity.device == device)
    begin, end = used[0].begin_s, used[-1].end_s
    inside = np.clip(activity.end_s, begin, end) - np.clip(activity.start_s, begin, end)
    seconds = np.bincount(activity.name, inside, len(trace.names)) / len(used)
    of_other = {trace.names[row]: float(seconds[row]) for row in np.flatnonzero(seconds)}
    ranked = sorted(of_other.items(), key=lambda each: (-each[1], each[0]))
    return {name: spent for name, spent in ranked if class_of(name) == OTHER}


def mean_time(times: Sequence[DeviceTime]) -> DeviceTime:
    """The mean of several windows (at least one); what one does not tell, the mean does not."""
    number = len(times)
    gaps = [each.launch_gap_s for each in times]
    launches = [each.launch_s for each in times]
    return DeviceTime(
        window_s=fsum(each.window_s for each in times) / number,
        classes=_mean_of([each.classes for each in times]),
        kernel_s=_mean_of([each.kernel_s for each in times]),
        communication_s=fsum(each.communication_s for each in times) / number,
        exposed_s=fsum(each.exposed_s for each in times) / number,
        idle_s=fsum(each.idle_s for each in times) / number,
        launch_gap_s=_mean_known(gaps),
        launch_s=_mean_known(launches),
    )


def _mean_of(tables: Sequence[Mapping[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for table in tables for name in table)
    return {name: fsum(table.get(name, 0.0) for table in tables) / len(tables) for name in names}


def _mean_known(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fsum(known) / len(known) if known else None
