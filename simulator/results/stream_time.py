"""What a rank's GPU does in a simulated step, in the classes that a profiler's trace of a real one falls into.

Communication with compute beside it is hidden; what of the compute stream waits for communication, or for slower ranks of a
group (in a real step a collective's kernel spins meanwhile), is exposed communication.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import fsum
from typing import Final

import numpy as np

from hwprofiles.kernels.shape import KERNELS
from hwprofiles.traces.intervals import inside, joined
from simulator.assembly.unit_costs import INSIDE, KERNEL_GAPS
from simulator.results.timeline import (
    COMPUTE,
    END_WAIT,
    EXPOSED,
    NUM_STREAMS,
    STREAMS,
    Floats,
    OperatorClass,
    StepTimeline,
)

COMMUNICATION: Final = "exposed_communication"
TRANSFERS: Final = "host_transfers"
IDLE: Final = "idle"
MEMORY_BOUND: Final = "memory_bound"
OTHER: Final = "other"
COMPUTE_CLASSES: Final = (
    "gemm", "grouped_gemm", "attention_fwd", "attention_bwd", MEMORY_BOUND, "quantise", "optimizer", OTHER,
)  # fmt: skip
"""Classes of compute that both a trace's kernels and a scenario's operators fall into."""
QUANTISING: Final = frozenset(
    {"amax", "dequantise", "dequantise_e5m6", "quantise", "quantise_e5m6", "quantise_hadamard", "quantise_joint",
     "quantise_transpose", "transpose"}
)  # fmt: skip
"""Operators around GEMMs of 8 bits."""
ELEMENTWISE: Final = "elementwise"
MEMORY_CLASSES: Final[Mapping[str, frozenset[str]]] = {
    "norm": frozenset({"rmsnorm", "rmsnorm_bwd"}),
    "reduction": frozenset({"reduce", "reduce_columns"}),
    "copy": frozenset({"copy", "strided_copy", "cast", "fill"}),
    "cat": frozenset({"cat"}),
    "index": frozenset({"embedding", "embedding_bwd", "gather_rows", "index_put", "scatter_rows"}),
    "permute": frozenset({"permute", "unpermute"}),
    "sort": frozenset({"sort", "topk", "routing_map", "row_map"}),
    "softmax_loss": frozenset({"softmax", "softmax_bwd", "cross_entropy", "cross_entropy_bwd"}),
}
"""Classes of kernel names that the memory bounds → operators that run such kernels; all others are ELEMENTWISE."""
OF_CATEGORY: Final[Mapping[str, str]] = {
    "gemm": "gemm", "expert_gemm": "grouped_gemm", "attention": "attention_fwd", "memory_bound": MEMORY_BOUND,
    "optimizer": "optimizer",
}  # fmt: skip
"""Class of a category whose operators are not known one by one."""
_COMM_STREAMS: Final = tuple(STREAMS.index(name) for name in ("communication", "data parallel"))
Parts = dict[tuple[str, str], float]
"""(class, name of the part) → seconds."""


@dataclass(frozen=True, slots=True)
class RankTime:
    """Seconds of a step on a rank's GPU: parts sum to step_s.

    communication_s: in which collectives run, of it overlapped_s beside compute.
    """

    pp_rank: int
    step_s: float
    parts: Parts
    communication_s: float
    overlapped_s: float

    def seconds(self, name: str) -> float:
        """Of a class."""
        return fsum(seconds for (of, _), seconds in self.parts.items() if of == name)


def class_of_op(op: str) -> str:
    """The class of a kernel by its name in the workload (a key of KERNELS)."""
    if op == "adamw":
        return "optimizer"
    if op in QUANTISING:
        return "quantise"
    if KERNELS[op].bound == "memory":
        return MEMORY_BOUND
    return op


def memory_class(op: str) -> str:
    """The class of kernel names that an operator bound by memory runs."""
    return next((name for name, ops in MEMORY_CLASSES.items() if op in ops), ELEMENTWISE)


def rank_time(timeline: StepTimeline, rank: int) -> RankTime:
    """What the timeline shows of a pipeline rank."""
    first, last = timeline.stream_first[rank * NUM_STREAMS + COMPUTE :][:2].tolist()
    rows = timeline.op_class[first:last]
    length = timeline.end_s[first:last] - timeline.start_s[first:last]
    spent = np.bincount(rows, length, len(timeline.classes))
    parts: defaultdict[tuple[str, str], float] = defaultdict(float)
    for row in np.flatnonzero(spent):
        for key, share in shares_of(timeline.classes[row]).items():
            parts[key] += share * float(spent[row])
    is_idle = np.array([each.is_idle for each in timeline.classes])[rows]
    is_end = np.array([each.category == END_WAIT for each in timeline.classes])[rows]
    begin, end = timeline.start_s[first:last], timeline.end_s[first:last]
    moved = _busy(timeline, rank)
    behind = float(inside(begin[is_end], end[is_end], moved).sum())
    _move(parts, (IDLE, END_WAIT), (COMMUNICATION, END_WAIT), behind)
    of_blocks = fsum(parts.get((COMMUNICATION, name), 0.0) for name in set(INSIDE.values()))
    return RankTime(
        pp_rank=rank,
        step_s=timeline.step_s,
        parts=dict(parts),
        communication_s=float((moved[1] - moved[0]).sum()) + of_blocks,
        overlapped_s=float(inside(begin[~is_idle], end[~is_idle], moved).sum()),
    )


def shares_of(each: OperatorClass) -> Parts:
    """What of an operator's time, which is 1 in all, is of which class."""
    if each.is_idle:
        return {_of_idle(each.category): 1.0}
    parts: defaultdict[tuple[str, str], float] = defaultdict(float)
    total = fsum(each.by_category.values())
    computed = 0.0
    for category, seconds in each.by_category.items():
        if category == KERNEL_GAPS:
            parts[IDLE, category] += seconds
        elif category in INSIDE.values():
            parts[COMMUNICATION, category] += seconds
        else:
            computed += seconds
    for key, share in _of_kernels(each).items():
        parts[key] += share * computed
    return {key: seconds / total for key, seconds in parts.items()} if total else {(OTHER, each.category): 1.0}


def _of_idle(category: str) -> tuple[str, str]:
    """An exposed wait counts as communication, the others as idle; END_WAIT is told apart by who moves bytes meanwhile."""
    return (COMMUNICATION if category == EXPOSED else IDLE, category)


def _of_kernels(each: OperatorClass) -> Parts:
    """Shares of an operator's kernels; of its categories where it lists none. Collectives on the compute stream (the norm of
    the gradients) are exposed.
    """
    found: defaultdict[tuple[str, str], float] = defaultdict(float)
    for kernel in each.kernels:
        op = kernel.op.split()[0]
        if op in KERNELS:
            found[class_of_op(op), op] += kernel.seconds
        elif kernel.op == "collective":
            found[COMMUNICATION, kernel.name] += kernel.seconds
    if not fsum(found.values()):
        for category, seconds in each.by_category.items():
            found[OF_CATEGORY.get(category, OTHER), category] += seconds
    total = fsum(found.values())
    return {key: seconds / total for key, seconds in found.items()} if total else {}


def _busy(timeline: StepTimeline, rank: int) -> tuple[Floats, Floats]:
    """Begins and ends of the stretches in which a rank's communication streams move something, joined, in order."""
    starts: list[Floats] = []
    ends: list[Floats] = []
    for stream in _COMM_STREAMS:
        first, last = timeline.stream_first[rank * NUM_STREAMS + stream :][:2].tolist()
        starts.append(timeline.start_s[first:last])
        ends.append(timeline.end_s[first:last])
    return joined(np.concatenate(starts), np.concatenate(ends))


def _move(parts: dict[tuple[str, str], float], old: tuple[str, str], new: tuple[str, str], seconds: float) -> None:
    if seconds > 0 and old in parts:
        moved = min(seconds, parts[old])
        parts[old] -= moved
        parts[new] = parts.get(new, 0.0) + moved


def mean_parts(ranks: Iterable[RankTime]) -> Parts:
    """The mean over ranks (at least one)."""
    listed = list(ranks)
    keys = dict.fromkeys(key for each in listed for key in each.parts)
    return {key: fsum(each.parts.get(key, 0.0) for each in listed) / len(listed) for key in keys}
