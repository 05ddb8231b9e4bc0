"""One case, how it is timed, and how many operators and kernels it issues."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

import torch
from torch.profiler import ProfilerActivity, profile

WARM_UP: Final = 3


def nothing() -> None:
    """State of a case that needs none."""


@dataclass(frozen=True, slots=True)
class Case:
    """Work whose issue is timed: `run` of what `prepare` made, which is not timed, counts `calls` calls.

    name, variant: what is called, and of which kind or size. phase: forward, backward, or none where there is no such thing.
    """

    name: str
    variant: str
    phase: str
    calls: int
    run: Callable[[Any], Any]
    prepare: Callable[[], Any] = nothing


@dataclass(frozen=True, slots=True)
class HostRow:
    """A line of the CSV: of one call, but for `calls`."""

    name: str
    variant: str
    phase: str
    calls: int
    host_s: float
    low_s: float
    high_s: float
    wait_s: float
    operators: float
    kernels: float


COLUMNS: Final = {
    "name": "what is called",
    "variant": "its kind or size",
    "phase": "forward, backward; empty: neither",
    "calls": "calls in a sample",
    "host_s": "processor's time until a call returns, nothing else queued: median of the samples",
    "low_s": "a tenth of the samples is below",
    "high_s": "a tenth of the samples is above",
    "wait_s": "until the device is done behind that, a call: median",
    "operators": "ATen operators a call, those inside others too",
    "kernels": "kernels, copies and fills on the device a call; 0 without a GPU",
}


def synchronise(device: torch.device) -> None:
    """Waits for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measured(case: Case, device: torch.device, samples: int) -> HostRow:
    """The case's row, nothing counted yet. Python's garbage collection runs between samples, not inside."""
    issued, waited = [], []
    for number in range(WARM_UP + samples):
        state = case.prepare()
        gc.collect(0)
        gc.disable()
        synchronise(device)
        begin = time.perf_counter()
        kept = case.run(state)
        issue = time.perf_counter()
        synchronise(device)
        end = time.perf_counter()
        gc.enable()
        del kept
        if number >= WARM_UP:
            issued.append((issue - begin) / case.calls)
            waited.append((end - issue) / case.calls)
    ordered, tenth = sorted(issued), samples // 10
    return HostRow(
        case.name, case.variant, case.phase, case.calls, median(issued), ordered[tenth], ordered[-1 - tenth],
        median(waited), 0.0, 0.0,
    )  # fmt: skip


def counted(case: Case, device: torch.device) -> tuple[int, int]:
    """(ATen operators, kernels) of a sample, as torch's profiler sees them."""
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device.type == "cuda" else [])
    state = case.prepare()
    synchronise(device)
    with profile(activities=activities) as found:
        kept = case.run(state)
        synchronise(device)
    del kept
    events = found.events() or []
    on_device = [each for each in events if each.device_type is torch.autograd.DeviceType.CUDA]
    return sum(each.name.startswith("aten::") for each in events), len(on_device)


def processor() -> str:
    """The processor's name as Linux tells it; "": not told."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    named = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    return next((named[key] for key in ("model name", "Processor", "CPU part") if key in named), "")
