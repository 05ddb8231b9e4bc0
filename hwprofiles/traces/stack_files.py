"""A stack's folder out of traces: kernel times by size, gaps between kernels, and tables of what was found.

Times are those of kernels inside training steps (state in_step), so that clocks, caches and neighbours are as they were there.
Where the trace has no sizes of operators there is no row; the tables and the gaps are written all the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from hwprofiles.catalog import gpu_of_device, list_names, load_gpu
from hwprofiles.kernels.rows import KERNEL_COLUMNS, LIBRARY
from hwprofiles.names import nearest
from hwprofiles.problem import Problem
from hwprofiles.record_file import CatalogError
from hwprofiles.schema import Gpu
from hwprofiles.traces.calls import timed_calls
from hwprofiles.traces.classes import GROUP_OF, class_of
from hwprofiles.traces.reading import read_trace
from hwprofiles.traces.rows import SOURCE, STATE, TracedRows, table_of, traced_rows
from hwprofiles.traces.summary import DeviceSteps, devices_of
from hwprofiles.traces.trace import KERNEL, Floats, Trace
from hwprofiles.units import MICRO
from hwprofiles.yaml_file import excerpt
from hwprofiles.yaml_text import as_yaml

KERNELS, HOST, PROVENANCE = "kernels.csv", "host_parameters.yaml", "provenance.yaml"
SUMMARY, NAMES = "trace_summary.csv", "trace_kernels.csv"
ALL_FILES: Final = (SUMMARY, NAMES, KERNELS, HOST, PROVENANCE)
"""What the folder may hold; the last one makes it a stack."""
QUEUED_S: Final = 20 * MICRO
"""A kernel that was launched so long before the one in front of it ended waited in a full queue: the gap is the device's."""
FEWEST_GAPS: Final = 20
GAP_QUANTILES: Final = (0.1, 0.5, 0.9)
SUMMARY_COLUMNS: Final = ("file", "rank", "what", "group", "seconds", "kernel_s", "share")
NAME_COLUMNS: Final = ("name", "class", "calls", "median_s", "low_s", "high_s", "total_s")
NO_SIZES: Final = (
    "no operator of the trace has sizes, and kernels without sizes cannot become rows: record it again with "
    "profile(..., record_shapes=True)"
)
CAVEAT: Final = "sizes of one program's step only, {:.0%} of its compute time; all else is public or transferred"
NO_ROWS: Final = "its trace had no sizes: only the gap between kernels is measured; all else is public or transferred"
NUM_LEFT: Final = 8
"""Most reasons for what gave no row that are told."""


@dataclass(frozen=True, slots=True)
class TracedStack:
    """files: name in the folder → text. lines: what to tell; warnings: what to mind. has_stack: whether the files are a stack
    at all.
    """

    files: Mapping[str, str]
    lines: tuple[str, ...]
    warnings: tuple[str, ...]
    has_stack: bool


def stack_files(paths: Sequence[Path], gpu_name: str | None = None) -> TracedStack:
    """What `moesim calibrate --from-trace` writes. gpu_name: of the catalogue, where the traces' device name does not tell.

    Raises CatalogError: no trace, a GPU that is not known, several kinds of GPUs.
    """
    if gpu_name is not None and gpu_name not in list_names("gpus"):
        known = list_names("gpus")
        raise CatalogError([Problem("", "--gpu", f"no GPU is called {gpu_name!a}{nearest(gpu_name, known)}")])
    traces = _read(paths)
    gpu = load_gpu(gpu_name or _gpu_of(traces))
    found = traced_rows([timed_calls(trace) for trace in traces], gpu)
    devices, warnings = _devices(traces)
    gap = kernel_gap(traces)
    files = {SUMMARY: table_of(_summary_rows(devices), SUMMARY_COLUMNS), NAMES: table_of(_names(traces), NAME_COLUMNS)}
    if found.rows:
        files[KERNELS] = table_of(found.rows, (*KERNEL_COLUMNS, LIBRARY))
    else:
        warnings.append(NO_SIZES if not any(trace.has_shapes for trace in traces) else "no call gave a row: see below")
    origin = _origin(traces)
    if gap is not None:
        files[HOST] = as_yaml({"kernel_gap_s": _gap_record(gap, origin)}, "Taken out of a trace by moesim calibrate.")
    has_stack = bool(found.rows or gap)
    if has_stack:
        files[PROVENANCE] = as_yaml(
            _provenance(traces, gpu, found, origin), "Taken out of a trace by moesim calibrate."
        )
    lines = tuple(_lines(traces, gpu, found, gap))
    return TracedStack(files, lines, tuple(warnings), has_stack)


def _read(paths: Sequence[Path]) -> list[Trace]:
    """All traces. Raises CatalogError as read_trace does, of all files at once."""
    traces: list[Trace] = []
    problems: list[Problem] = []
    for path in paths:
        try:
            traces.append(read_trace(path))
        except CatalogError as error:
            problems += error.problems
    if problems:
        raise CatalogError(problems)
    return traces


def _gpu_of(traces: Sequence[Trace]) -> str:
    """The catalogue's name of the GPU that all traces are of. Raises CatalogError."""
    names = sorted({name for trace in traces for name in trace.device_names.values()})
    found = {gpu_of_device(name) for name in names}
    remedy = "say which with --gpu NAME (`moesim list gpus`)"
    if not names:
        raise CatalogError(
            [Problem(excerpt(traces[0].path.name, 200), "deviceProperties", f"the trace names no GPU; {remedy}")]
        )
    if len(found) > 1:
        text = f"the traces are of several GPUs ({', '.join(names)}); give those of one"
        raise CatalogError([Problem("", "--from-trace", text)])
    (only,) = found
    if only is None:
        text = f"the catalogue knows no GPU that a driver calls {', '.join(names)}; {remedy}"
        raise CatalogError([Problem(excerpt(traces[0].path.name, 200), "deviceProperties", text)])
    return only


def _devices(traces: Sequence[Trace]) -> tuple[list[DeviceSteps], list[str]]:
    devices: list[DeviceSteps] = []
    warnings: list[str] = []
    for trace in traces:
        found, told = devices_of(trace, len(devices))
        devices += found
        warnings += [f"{excerpt(trace.path.name, 100)}: {line}" for line in dict.fromkeys((*trace.warnings, *told))]
    return devices, warnings


def _summary_rows(devices: Sequence[DeviceSteps]) -> Iterator[dict[str, str]]:
    """Of every device a mean step by class, then what is no class."""
    for each in devices:
        mean = each.mean
        classes = sorted(mean.classes.items(), key=lambda item: (-item[1], item[0]))
        rows: list[tuple[str, str, float, float | None]] = [
            (name, GROUP_OF[name], seconds, mean.kernel_s[name]) for name, seconds in classes
        ]
        rows += [("communication_beside_compute", "", mean.overlapped_s, None)]
        rows += [("exposed_communication", "", mean.exposed_s, None), ("idle", "", mean.idle_s, None)]
        if mean.launch_gap_s is not None and mean.launch_s is not None:
            rows += [("launch_gap", "", mean.launch_gap_s, None), ("launch", "", mean.launch_s, None)]
        for what, group, seconds, summed in [*rows, ("step", "", mean.window_s, None)]:
            yield {
                "file": each.file, "rank": str(each.rank), "what": what, "group": group, "seconds": f"{seconds:.6g}",
                "kernel_s": "" if summed is None else f"{summed:.6g}", "share": f"{seconds / mean.window_s:.4g}",
            }  # fmt: skip


def _names(traces: Sequence[Trace]) -> Iterator[dict[str, str]]:
    """Every name of a kernel or copy with its times, the longest total first."""
    seconds: dict[str, list[Floats]] = {}
    for trace in traces:
        order = np.argsort(trace.activity.name, kind="stable")
        names, first = np.unique(trace.activity.name[order], return_index=True)
        for name, part in zip(names.tolist(), np.split(trace.activity.seconds[order], first[1:]), strict=True):
            seconds.setdefault(trace.names[name], []).append(part)
    joined = {name: np.concatenate(parts) for name, parts in seconds.items()}
    for name, each in sorted(joined.items(), key=lambda item: (-float(item[1].sum()), item[0])):
        low, middle, high = np.quantile(each, GAP_QUANTILES)
        yield {
            "name": name, "class": class_of(name), "calls": str(len(each)), "median_s": f"{middle:.6g}",
            "low_s": f"{low:.6g}", "high_s": f"{high:.6g}", "total_s": f"{each.sum():.6g}",
        }  # fmt: skip


def kernel_gap(traces: Sequence[Trace]) -> tuple[float, float, float] | None:
    """(low, median, high) seconds between two kernels of a stream of which the second waited in the queue; None: too few."""
    gaps: list[Floats] = []
    for trace in traces:
        activity = trace.activity.of(trace.activity.kind == KERNEL)
        activity = activity.of(np.lexsort((activity.start_s, activity.stream, activity.device)))
        same = (np.diff(activity.stream) == 0) & (np.diff(activity.device) == 0)
        queued = activity.launch_s[1:] < activity.end_s[:-1] - QUEUED_S
        gap = activity.start_s[1:] - activity.end_s[:-1]
        gaps.append(gap[same & queued & (gap > 0) & (gap < QUEUED_S)])
    every = np.concatenate(gaps)
    if len(every) < FEWEST_GAPS:
        return None
    low, middle, high = np.quantile(every, GAP_QUANTILES).tolist()
    return low, middle, high


def _gap_record(gap: tuple[float, float, float], origin: Mapping[str, str]) -> dict[str, Any]:
    low, middle, high = gap
    return {
        "value": middle, "low": low, "high": high, "unit": "s", "basis": "measured", "state": STATE,
        "source": {**origin, "note": f"{origin['note']}; gaps between kernels of one stream that waited in its queue"},
    }  # fmt: skip


def _origin(traces: Sequence[Trace]) -> dict[str, str]:
    """The source of everything here."""
    names = ", ".join(excerpt(trace.path.name, 100) for trace in traces[:3]) + (
        f" and {len(traces) - 3} more" if len(traces) > 3 else ""
    )
    facts = sorted({name for trace in traces for name in trace.device_names.values()})
    facts += [f"{word} {version}" for word, version in traces[0].versions.items()]
    date = max(trace.date for trace in traces)
    return {
        "kind": "measurement",
        "where": f"kernels of a training step in {names}",
        **({"date": date} if date else {}),
        "note": ", ".join(facts),
    }


def _provenance(traces: Sequence[Trace], gpu: Gpu, found: TracedRows, origin: Mapping[str, str]) -> dict[str, Any]:
    versions = traces[0].versions
    devices = sorted({name for trace in traces for name in trace.device_names.values()})
    software = ", ".join(f"{word} {version}" for word, version in versions.items()) or "not told by the trace"
    calibration: dict[str, Any] = {"date": origin.get("date", "")}
    calibration |= {
        "device": devices[0] if devices else "",
        "torch": versions.get("torch", ""),
        "cuda": versions.get("CUDA", ""),
        "kernel_rows": len(found.rows) or "",
    }
    calibration |= {"spread": float(f"{found.spread:.3g}")} if found.spread else {}
    return {
        "gpu": gpu.name,
        "description": f"kernel times of a training step on {devices[0] if devices else gpu.name}, out of a profiler's trace",
        "software": software,
        "state": STATE,
        "caveat": CAVEAT.format(found.covered) if found.rows else NO_ROWS,
        **({"calibration": {key: value for key, value in calibration.items() if value}} if origin.get("date") else {}),
        "sources": {SOURCE: dict(origin)},
    }


def _lines(
    traces: Sequence[Trace], gpu: Gpu, found: TracedRows, gap: tuple[float, float, float] | None
) -> Iterator[str]:
    number = sum(len(trace.activity) for trace in traces)
    yield f"{number} kernels and copies of {len(traces)} trace{'s' * (len(traces) > 1)}, GPU {gpu.name}"
    ops = Counter(row["op"] for row in found.rows)
    if found.rows:
        kinds = ", ".join(f"{count} {op}" for op, count in ops.most_common())
        yield (
            f"{KERNELS}: {len(found.rows)} rows of {found.calls} calls, {found.covered:.0%} of the compute time ({kinds}); "
            f"spread of repeats {found.spread:.1%}"
        )
    if found.rows or any(trace.has_shapes for trace in traces):
        for reason, share in list(found.left.items())[:NUM_LEFT]:
            yield f"no row: {share:.1%} of the compute time, {reason}"
    if gap is not None:
        low, middle, high = (each / MICRO for each in gap)
        yield f"{HOST}: kernel_gap_s {middle:.2f} us ({low:.2f} to {high:.2f})"
    yield f"{SUMMARY}: a step by class of kernel; {NAMES}: every kernel by name"
