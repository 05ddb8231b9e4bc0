"""Which kernels a call launches, as torch's profiler sees them: name, the operator that launched it, how often, how long."""

from __future__ import annotations

import re
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

NAME_LENGTH: Final = 110
"""Characters of a kernel's name that are written."""
_NOISE: Final = re.compile(r"\(anonymous namespace\)::|at::native::|\bvoid |\bc10::|\bstd::")


@dataclass(frozen=True, slots=True)
class Seen:
    """Kernels in a row that are alike: how many, and their microseconds together. operator: of torch, with its input sizes."""

    kernel: str
    operator: str
    count: int
    us: float


def seen(call: Callable[[], Any], device: torch.device) -> list[Seen]:
    """Kernels of a call in the order in which they ran; on a CPU torch's operators that call no other."""
    is_cuda = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if is_cuda else [])]
    with profile(activities=activities, record_shapes=True) as profiler:
        call()
        if is_cuda:
            torch.cuda.synchronize(device)
    events = list(profiler.events() or ())
    return list(_joined(_on_gpu(events) if is_cuda else _on_cpu(events)))


def _on_gpu(events: list[Any]) -> Iterator[Seen]:
    by_kernel: dict[tuple[str, float], deque[str]] = defaultdict(deque)
    for event in sorted(events, key=lambda event: event.time_range.start):
        for kernel in event.kernels if event.device_type == DeviceType.CPU else ():
            by_kernel[kernel.name, round(kernel.duration, 3)].append(_operator(event))
    ran = [event for event in events if event.device_type == DeviceType.CUDA]
    for event in sorted(ran, key=lambda event: event.time_range.start):
        us = event.time_range.elapsed_us()
        operators = by_kernel[event.name, round(us, 3)]
        yield Seen(short(event.name), operators.popleft() if operators else "", 1, us)


def _on_cpu(events: list[Any]) -> Iterator[Seen]:
    for event in events:
        if not event.cpu_children and event.name.startswith("aten::"):
            yield Seen(event.name, _operator(event), 1, event.time_range.elapsed_us())


def _operator(event: Any) -> str:
    shapes = " ".join(
        "x".join(map(str, shape)) for shape in event.input_shapes or () if isinstance(shape, list) and shape
    )
    return f"{event.name.removeprefix('aten::')} {shapes}".strip()


def _joined(each: Iterator[Seen]) -> Iterator[Seen]:
    """Neighbours of one name and operator as one."""
    last: Seen | None = None
    for one in each:
        if last and (last.kernel, last.operator) == (one.kernel, one.operator):
            last = Seen(last.kernel, last.operator, last.count + one.count, last.us + one.us)
            continue
        if last:
            yield last
        last = one
    if last:
        yield last


def short(name: str) -> str:
    """A kernel's name without what all of torch's have."""
    return _NOISE.sub("", name)[:NAME_LENGTH]
