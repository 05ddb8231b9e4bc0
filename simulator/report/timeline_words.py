"""A step's timeline in words: what stands at a bar, and what a picture of it shows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Final

import numpy as np

from simulator.report import numbers
from simulator.results.timeline import (
    BUBBLE,
    COMPUTE,
    END_WAIT,
    EXPOSED,
    HOST_WAIT,
    IDLE,
    NUM_STREAMS,
    STREAMS,
    Kernel,
    OperatorClass,
    StepTimeline,
)
from simulator.results.timeline_view import TimelineView

CATEGORY_WORDS: Final[Mapping[str, str]] = {
    "gemm": "GEMM",
    "expert_gemm": "expert GEMM",
    "attention": "attention core",
    "memory_bound": "memory-bound kernels",
    "kernel_gaps": "gaps between kernels",
    "tp_collectives": "tensor-parallel collectives",
    "cp_collectives": "context-parallel collectives",
    "interference": "interference of collectives",
    "all_to_all": "dispatch and combine",
    "pp_transfer": "pipeline transfers",
    "data_parallel": "data-parallel collectives",
    "link_sharing": "waits for a shared link",
    "optimizer": "optimizer",
    "offload": "copies to and from the host",
    "host": "host issues work",
    "other": "host between steps",
    BUBBLE: "bubble",
    HOST_WAIT: "waits for the host",
    EXPOSED: "exposed comm., waits",
    END_WAIT: "waits at the step's end",
}
"""Categories as a legend names them."""
SHORT_STREAMS: Final = ("compute", "comm.", "data par.", "to host", "from host", "host")
NOTATION_WORDS: Final = (
    "Names above a rank are its actions: 3F17 is the forward of micro-batch 17 on stage 3, B a whole backward, I a backward of "
    "the inputs alone, W the weight gradients that it leaves, & a pair that runs overlapped."
)
PARTS_WORDS: Final = (
    "Parts sum to the step. Exposed: messages and waits inside the parts that no computing hides. In flight: most "
    "micro-batches whose activations a rank holds, counted in stages."
)
MAX_KERNELS: Final = 3
"""Kernels of an operator that its hover names, the longest ones."""
MAX_SHARES: Final = 4
LEAST_CHANGE: Final = 5e-4
"""Relative change by load and speed that is told."""
MAX_SOURCE: Final = 90
"""Characters of a source in a hover."""


def category_words(name: str) -> str:
    """A category as a legend names it."""
    return CATEGORY_WORDS.get(name, name.replace("_", " "))


def rank_words(timeline: StepTimeline, rank: int) -> str:
    """A rank, and where it stands in the pipeline."""
    place = {0: "first", timeline.num_ranks // 2: "middle", timeline.num_ranks - 1: "last"}.get(rank)
    return f"rank {rank}" if place is None or timeline.num_ranks < 3 else f"rank {rank} ({place})"


def draw_words(timeline: StepTimeline, mean_step_s: float | None = None) -> str:
    """Which draw and which pipeline are shown. mean_step_s: of all draws, where the timeline does not say it."""
    mean_s = timeline.mean_step_s if mean_step_s is None else mean_step_s
    step = numbers.step_time(timeline.step_s)
    if timeline.num_draws == 1:
        drawn = f"The step takes {step}; nothing in it is random." if timeline.lane.count == 1 else f"One draw: {step}."
    else:
        mean = "" if mean_s is None else f"; the mean of the draws is {numbers.step_time(mean_s)}"
        drawn = f"Draw {timeline.draw + 1} of {timeline.num_draws}, the first: {step}{mean}."
    if timeline.lane.count == 1:
        return drawn
    return f"{drawn} Shown is pipeline {timeline.lane.index} of {timeline.lane.count}: {timeline.lane.why}."


def figures_in_words(timelines: Sequence[StepTimeline]) -> tuple[tuple[tuple[str, str, str, str], ...], ...]:
    """(label, value, difference to the first, help) of the headline figures, one row a timeline."""
    rows = []
    for each in timelines:
        first = timelines[0]
        seconds = [
            ("step, this draw", each.step_s, first.step_s, "From the first forward to the last gather of parameters."),
            ("bubble", each.mean_bubble_s, first.mean_bubble_s, "Idle between actions, mean over the ranks."),
            (
                "exposed", each.mean_exposed_comm_s, first.mean_exposed_comm_s,
                "Messages, and waits for them and for slower ranks, that no computing hides; mean over the ranks.",
            ),
            ("step's end", each.optimizer_s, first.optimizer_s, "From the last backward of all ranks to the end of the step."),
        ]  # fmt: skip
        row = []
        for label, value, base, help_ in seconds:
            share = "" if value == each.step_s else f", {numbers.percent(value / each.step_s)}"
            delta = "" if each is first else numbers.signed_seconds(value - base)
            row.append((f"{label}{share}", numbers.seconds(value), delta, help_))
        held, base_held = max(each.in_flight), max(first.in_flight)
        delta = "" if each is first else f"{held - base_held:+,}"
        help_ = "Most micro-batches whose activations one rank holds at once, counted in stages."
        rows.append((*row, ("in flight", f"{held:,}", delta, help_)))
    return tuple(rows)


def view_words(view: TimelineView) -> str:
    """How much a picture merges, and which ranks it leaves out."""
    timeline = view.timeline
    bars, behind = len(view.rank), int(view.count.sum())
    parts = ["Each bar is one operator, or one wait."]
    if not view.is_single:
        parts = [
            f"{bars:,} bars stand for {behind:,} operators and waits. Thin ones are merged: the height of a bar is its share "
            "of the time, its colour what most of it is. A shorter window shows single ones."
        ]
    parts.append(NOTATION_WORDS)
    if len(view.ranks) < timeline.num_ranks:
        parts.append(f"Shown are ranks {', '.join(map(str, view.ranks))} of {timeline.num_ranks}.")
    return " ".join(parts)


def hovers(view: TimelineView) -> list[str]:
    """What stands at each bar of a view."""
    span = view.end_s - view.start_s
    return [
        _single(view, bar, span) if view.slice_of[bar] >= 0 else _merged(view, bar, span)
        for bar in range(len(view.rank))
    ]


def _merged(view: TimelineView, bar: int, span_s: float) -> str:
    start, end, busy = (float(each[bar]) for each in (view.bar_start_s, view.bar_end_s, view.busy_s))
    names, seconds = view.timeline.categories, view.seconds[bar]
    order = np.argsort(-seconds, kind="stable")[:MAX_SHARES]
    shares = [f"{category_words(names[c])} {numbers.percent(seconds[c] / busy)}" for c in order if seconds[c] > 0]
    is_idle = names[int(order[0])] in IDLE
    what = f"{view.count[bar]:,} {'stretches without work' if is_idle else 'operators'}"
    lines = [
        f"<b>{what}</b>, rank {view.rank[bar]}, {STREAMS[view.stream[bar]]}",
        f"{numbers.seconds(busy)} between {numbers.moment(start, span_s)} and {numbers.moment(end, span_s)}",
        ", ".join(shares),
    ]
    return "<br>".join(lines)


def _single(view: TimelineView, bar: int, span_s: float) -> str:
    timeline, index = view.timeline, int(view.slice_of[bar])
    kind = timeline.classes[timeline.op_class[index]]
    start, length = float(timeline.start_s[index]), float(timeline.end_s[index] - timeline.start_s[index])
    lines = [
        f"<b>{escape(kind.label, quote=False)}</b>",
        ", ".join((f"rank {view.rank[bar]}, {STREAMS[view.stream[bar]]}", *_where(timeline, index, kind))),
        f"{numbers.seconds(length)} from {numbers.moment(start, span_s)}",
    ]
    if kind.is_idle:
        return "<br>".join((*lines, *_awaited(timeline, index, kind)))
    if kind.seconds and abs(length / kind.seconds - 1.0) >= LEAST_CHANGE:
        factor = numbers.plain(length / kind.seconds)
        lines.append(f"{factor} times the {numbers.seconds(kind.seconds)} of even loads on a GPU of mean speed")
    return "<br>".join((*lines, *_kernels(kind)))


def _where(timeline: StepTimeline, index: int, kind: OperatorClass) -> Iterator[str]:
    action = int(timeline.action[index])
    if action < 0:
        return
    stage, micro_batch, b_stage, b_micro_batch = timeline.actions[action].tolist()
    if not kind.is_idle:
        if kind.passes != "F" and b_stage >= 0:
            stage, micro_batch = b_stage, b_micro_batch
        yield f"stage {stage}, micro-batch {micro_batch}"
    if b_stage >= 0 or kind.is_idle:
        yield (
            "in " if not kind.is_idle or kind.category in (EXPOSED, HOST_WAIT) else "before "
        ) + timeline.action_names[action]


def _awaited(timeline: StepTimeline, index: int, kind: OperatorClass) -> Iterator[str]:
    """What ends a wait: the message of the rank's own streams that ends with it, else somebody else's."""
    end = float(timeline.end_s[index])
    if kind.category == BUBBLE:
        return
    rank = int(timeline.stream_of[index]) // NUM_STREAMS
    for stream in range(NUM_STREAMS):
        here = timeline.slices(rank, stream, float(timeline.start_s[index]), end)
        if stream != COMPUTE and here.stop > here.start and timeline.end_s[here.stop - 1] <= end * (1 + 1e-12):
            yield f"until this ends: {escape(timeline.classes[timeline.op_class[here.stop - 1]].label, quote=False)}"


def _kernels(kind: OperatorClass) -> Iterator[str]:
    longest = sorted(kind.kernels, key=lambda kernel: -kernel.seconds)
    for kernel in longest[:MAX_KERNELS]:
        yield f"{escape(kernel_words(kernel), quote=False)}: {numbers.seconds(kernel.seconds)}, {kernel.basis}"
    if len(longest) > MAX_KERNELS:
        left = sum(kernel.seconds for kernel in longest[MAX_KERNELS:])
        count = len(longest) - MAX_KERNELS
        yield f"and {count} more kernel{'s' if count > 1 else ''}: {numbers.seconds(left)}"
    if longest and longest[0].source:
        source = longest[0].source
        yield f"source: {escape(source if len(source) <= MAX_SOURCE else source[: MAX_SOURCE - 1] + '…', quote=False)}"


def kernel_words(kernel: Kernel) -> str:
    """A kernel with its shape: "o (gemm fprop fp8-block, m 4,096, n 7,168, k 16,384)"."""
    sizes = [f"{name.replace('_', ' ')} {size:,}" for name, size in kernel.sizes]
    if kernel.num_bytes and (not sizes or not kernel.dtype):
        sizes.append(numbers.amount_of_bytes(kernel.num_bytes))
    called = " ".join(filter(None, (kernel.op.replace("_", " "), kernel.dtype)))
    name = kernel.name.replace("_", " ").replace(".", " ")
    return f"{name} ({', '.join((called, *sizes))})"


def alt(view: TimelineView) -> str:
    """A picture in words: the step, what each rank does in the window, bubble and exposed communication."""
    timeline = view.timeline
    whole = view.start_s <= 0.0 and view.end_s >= timeline.step_s
    parts = [
        f"Timeline of {timeline.num_ranks} pipeline ranks under {timeline.schedule} with {timeline.num_micro_batches} "
        f"micro-batches. {draw_words(timeline)}"
    ]
    if not whole:
        span = view.end_s - view.start_s
        parts.append(f"Shown: {numbers.moment(view.start_s, span)} to {numbers.moment(view.end_s, span)}.")
    shown = [(rank, _window_shares(view, rank)) for rank in view.ranks]
    busy = sorted((shares["busy"], rank) for rank, shares in shown)
    parts.append(
        f"Compute streams are busy {numbers.percent(busy[0][0])} (rank {busy[0][1]}) to {numbers.percent(busy[-1][0])} "
        f"(rank {busy[-1][1]}) of the time."
    )
    for name in IDLE:
        most = max(shown, key=lambda pair: pair[1][name])
        mean = timeline.mean_over_ranks([share[name] for _, share in shown]) * timeline.num_ranks / len(shown)
        parts.append(
            f"{category_words(name).capitalize()}: {numbers.percent(mean)} on average, most on rank {most[0]} "
            f"({numbers.percent(most[1][name])})."
        )
    return " ".join(parts)


def _window_shares(view: TimelineView, rank: int) -> dict[str, float]:
    found, span = view.timeline.by_category(rank, COMPUTE, view.start_s, view.end_s), view.end_s - view.start_s
    shares = {name: found.get(name, 0.0) / span for name in IDLE}
    return shares | {"busy": sum(s for name, s in found.items() if name not in IDLE) / span}
