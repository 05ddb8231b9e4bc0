"""A recorded step beside a simulated one: compute by class, communication, idle time, and what is behind the difference.

The same words on both sides: a trace's kernels fall into classes by their names (hwprofiles.traces.classes), a scenario's by
their operators (stream_time). Waits for a slower rank, and of a pipeline for its input, are in a trace inside the kernels of
collectives that spin meanwhile: the two last classes are best read together where there are pipelines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import fsum
from typing import Final

from pydantic import Field

from hwprofiles.stack_choice import StackKind
from hwprofiles.traces.classes import GROUP_OF
from hwprofiles.traces.classes import OTHER as UNKNOWN
from hwprofiles.traces.device_time import DeviceTime
from hwprofiles.traces.summary import NUM_UNKNOWN, DeviceSteps, TraceSummary, mean_time
from simulator.assembly.unit_costs import KERNEL_GAPS
from simulator.results.comparison import StepDifference
from simulator.results.document import ResultModel, Seconds
from simulator.results.stream_time import (
    COMMUNICATION,
    COMPUTE_CLASSES,
    IDLE,
    MEMORY_BOUND,
    OTHER,
    TRANSFERS,
    Parts,
    RankTime,
    mean_parts,
    memory_class,
)

CLASSES: Final = (*COMPUTE_CLASSES, COMMUNICATION, TRANSFERS, IDLE)
"""The rows: what a step's seconds are, on both sides."""
_OWN: Final = frozenset({"gemm", "grouped_gemm", "attention_fwd", "attention_bwd", "quantise", "optimizer"})
"""Classes of kernel names that are a row of their own; other compute is bound by memory."""
COPIES: Final[Mapping[str, str]] = {"memcpy_device": "copy", "memset": "copy"}
"""Classes of a trace that are what a scenario counts under another one."""
LAUNCH_GAP, LAUNCH, UNTOLD = "launch_gap", "launch", "unknown"
"""Parts of a trace's idle time: before the host began to launch what came next; from there to its start; without launches in
the trace, all of it. What is launched long before and has not begun is a gap between kernels."""


class MemoryTime(ResultModel):
    """Kernels that the memory bounds, of one class of names: seconds of a step; difference_s: predicted − trace."""

    class_: str = Field(serialization_alias="class")
    trace_s: Seconds
    predicted_s: Seconds
    difference_s: float


class ClassTime(ResultModel):
    """A class on both sides, seconds of a step, means over ranks. trace_parts: by class of kernel names, predicted_parts: by
    operator or reason; difference_s: predicted − trace. of_it: of kernels bound by memory alone, by class of names; a fused
    operator on one side is the kernels that it replaces on the other.
    """

    class_: str = Field(serialization_alias="class")
    trace_s: Seconds
    predicted_s: Seconds
    difference_s: float
    trace_parts: dict[str, Seconds]
    predicted_parts: dict[str, Seconds]
    of_it: tuple[MemoryTime, ...] | None = None


class Communication(ResultModel):
    """Seconds in which collectives run, with compute beside them and without (waits for slower ranks included)."""

    total_s: Seconds
    overlapped_s: Seconds
    exposed_s: Seconds


class BothCommunication(ResultModel):
    """Of both sides."""

    trace: Communication
    predicted: Communication


class TracedRank(ResultModel):
    """A GPU of the trace beside the pipeline rank that it is, or the mean where the trace does not tell which."""

    rank: int
    file: str
    gpu: str
    pp_rank: int | None = None
    steps: int
    step_s: Seconds
    predicted_step_s: Seconds
    classes: tuple[ClassTime, ...]


class UnknownKernel(ResultModel):
    """A kernel of no class by its name, seconds a step on its GPU."""

    name: str
    seconds: Seconds


class TraceTimes(ResultModel):
    """steps: that the means are taken over, of the GPU with the fewest. classes: in the order of CLASSES, those without
    seconds left out. idle_s: nothing runs; launch_gap_s: of it before the host began to launch what came next, absent where
    the trace tells no launches; predicted_*: of the scenario, its gap: waits for the host.
    """

    files: tuple[str, ...]
    gpus: tuple[str, ...]
    steps: int
    step_s: Seconds
    classes: tuple[ClassTime, ...]
    communication: BothCommunication
    idle_s: Seconds
    predicted_idle_s: Seconds
    launch_gap_s: Seconds | None = None
    predicted_launch_gap_s: Seconds
    by_rank: tuple[TracedRank, ...]
    unclassified: tuple[UnknownKernel, ...] = ()


class Predicted(ResultModel):
    """The scenario beside the trace. step_s: of the first random draw. step_difference: predicted − trace by class, the biggest
    first; the parts sum to the difference of the steps.
    """

    scenario: str
    scenario_sha256: str
    version: str
    stack: str
    stack_sha256: str
    stack_kind: StackKind
    step_s: float = Field(gt=0)
    step_difference: tuple[StepDifference, ...]
    warnings: tuple[str, ...] = ()


class TraceComparison(ResultModel):
    """The document of `moesim compare TRACE SCENARIO`. base: the trace's file (the first of several)."""

    base: str
    others: tuple[Predicted, ...] = Field(min_length=1)
    trace: TraceTimes


def trace_times(summary: TraceSummary, ranks: Sequence[RankTime], pp_rank_of: Mapping[int, int]) -> TraceTimes:
    """Both sides. pp_rank_of: rank of a trace's GPU → pipeline rank; those that it lacks stand beside the mean."""
    devices = summary.devices
    mean = mean_time([each.mean for each in devices])
    chosen = [ranks[pp_rank_of[each.rank]] for each in devices if each.rank in pp_rank_of]
    beside = chosen if len(chosen) == len(devices) else list(ranks)
    predicted = mean_parts(beside)
    idle = {name: seconds for (of, name), seconds in predicted.items() if of == IDLE}
    return TraceTimes(
        files=tuple(dict.fromkeys(each.file for each in devices)),
        gpus=summary.gpus,
        steps=min(each.num_steps for each in devices),
        step_s=mean.window_s,
        classes=class_times(mean, predicted),
        communication=BothCommunication(
            trace=Communication(
                total_s=mean.communication_s, overlapped_s=mean.overlapped_s, exposed_s=mean.exposed_s
            ),
            predicted=_communication(beside, predicted),
        ),
        idle_s=mean.idle_s,
        predicted_idle_s=fsum(idle.values()),
        launch_gap_s=mean.launch_gap_s,
        predicted_launch_gap_s=idle.get("host_wait", 0.0),
        by_rank=tuple(_rank(each, ranks, beside, pp_rank_of) for each in devices),
        unclassified=_unclassified(devices),
    )  # fmt: skip


def class_times(mean: DeviceTime, predicted: Parts) -> tuple[ClassTime, ...]:
    """The rows, without those that neither side has."""
    traced = trace_parts(mean)
    rows = []
    for name in CLASSES:
        before = {part: seconds for (of, part), seconds in traced.items() if of == name and seconds > 0}
        after = {part: seconds for (of, part), seconds in predicted.items() if of == name and seconds > 0}
        one, other = fsum(before.values()), fsum(after.values())
        if before or after:
            rows.append(
                ClassTime(
                    class_=name, trace_s=one, predicted_s=other, difference_s=other - one,
                    trace_parts=_ranked(before), predicted_parts=_ranked(after),
                    of_it=_memory_times(before, after) if name == MEMORY_BOUND else None,
                )
            )  # fmt: skip
    return tuple(rows)


def _memory_times(before: Mapping[str, float], after: Mapping[str, float]) -> tuple[MemoryTime, ...]:
    """The biggest difference first."""
    one: dict[str, float] = {}
    other: dict[str, float] = {}
    for name, seconds in before.items():
        name = COPIES.get(name, name)
        one[name] = one.get(name, 0.0) + seconds
    for op, seconds in after.items():
        name = memory_class(op)
        other[name] = other.get(name, 0.0) + seconds
    rows = [
        MemoryTime(class_=name, trace_s=one.get(name, 0.0), predicted_s=other.get(name, 0.0),
                   difference_s=other.get(name, 0.0) - one.get(name, 0.0))
        for name in dict.fromkeys((*one, *other))
    ]  # fmt: skip
    return tuple(sorted(rows, key=lambda row: (-abs(row.difference_s), row.class_)))


def trace_parts(mean: DeviceTime) -> Parts:
    """A trace's seconds by row and class of kernel names; they sum to its window."""
    parts: Parts = {}
    for name, seconds in mean.classes.items():
        parts[row_of(name), name] = seconds
    gap, launch = mean.launch_gap_s or 0.0, mean.launch_s or 0.0
    parts[IDLE, LAUNCH_GAP], parts[IDLE, LAUNCH] = gap, launch
    parts[IDLE, UNTOLD if mean.launch_gap_s is None else KERNEL_GAPS] = max(0.0, mean.idle_s - gap - launch)
    return parts


def row_of(name: str) -> str:
    """The row that a class of kernel names falls into."""
    if GROUP_OF[name] == "communication":
        return COMMUNICATION
    if GROUP_OF[name] == "transfer":
        return TRANSFERS
    if name == UNKNOWN:
        return OTHER
    return name if name in _OWN else MEMORY_BOUND


def difference(times: TraceTimes) -> tuple[StepDifference, ...]:
    """By class, the biggest first; nothing where the sides are equal."""
    ranked = sorted(times.classes, key=lambda each: -abs(each.difference_s))
    return tuple(
        StepDifference(category=each.class_, seconds=each.difference_s) for each in ranked if each.difference_s
    )


def _ranked(parts: Mapping[str, float]) -> dict[str, float]:
    return dict(sorted(parts.items(), key=lambda each: (-each[1], each[0])))


def _communication(ranks: Sequence[RankTime], parts: Parts) -> Communication:
    return Communication(
        total_s=fsum(each.communication_s for each in ranks) / len(ranks),
        overlapped_s=fsum(each.overlapped_s for each in ranks) / len(ranks),
        exposed_s=fsum(seconds for (of, _), seconds in parts.items() if of == COMMUNICATION),
    )


def _rank(
    device: DeviceSteps, ranks: Sequence[RankTime], beside: Sequence[RankTime], pp_rank_of: Mapping[int, int]
) -> TracedRank:
    place = pp_rank_of.get(device.rank)
    of_rank = beside if place is None else [ranks[place]]
    return TracedRank(
        rank=device.rank,
        file=device.file,
        gpu=device.gpu,
        pp_rank=place,
        steps=device.num_steps,
        step_s=device.mean.window_s,
        predicted_step_s=fsum(each.step_s for each in of_rank) / len(of_rank),
        classes=class_times(device.mean, mean_parts(of_rank)),
    )


def _unclassified(devices: Sequence[DeviceSteps]) -> tuple[UnknownKernel, ...]:
    names = dict.fromkeys(name for each in devices for name in each.unknown)
    seconds = {name: fsum(each.unknown.get(name, 0.0) for each in devices) / len(devices) for name in names}
    return tuple(
        UnknownKernel(name=name, seconds=spent) for name, spent in list(_ranked(seconds).items())[:NUM_UNKNOWN]
    )
