"""A comparison as texts: what console, Markdown and dashboard say of two runs, each in its own layout.

Numbers come from `report.numbers`, with the digits that the intervals bear.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import fsum
from typing import Any, Final

from simulator.report import numbers
from simulator.report.headline import figures
from simulator.report.timeline_words import category_words
from simulator.results.changes import ChangedInput
from simulator.results.compared_figures import ChangedResult
from simulator.results.comparison import Beside, ComparedRun, Comparison, StepDifference
from simulator.results.document import JsonValue
from simulator.results.interval import Interval
from simulator.results.run_result import RunResult

NOT_SET: Final = "not set"
NONE: Final = "–"
NUM_NAMED: Final = 2
"""Changes that a run is named by."""
SLIVER: Final = 2e-3
"""Of the largest part of a difference, that another must be to be told by its name."""
MAX_VALUE: Final = 40
"""Letters of an input's value; a model's layer list may have hundreds."""

LABELS: Final[Mapping[str, str]] = {
    "memory.verdict": "memory",
    "memory.fits": "peak is usable",
    "step.step_s": "step",
    "step.tokens_per_step": "tokens a step",
    "step.tokens_per_s_per_gpu": "tokens/s/GPU",
    "step.mfu.bf16_dense_causal": "MFU, causal",
    "step.bubble_s": "bubble",
    "step.exposed_comm_s": "exposed communication",
    "step.optimizer_s": "optimizer",
    "memory.peak_bytes_per_gpu": "peak memory",
    "totals.wall_s": "wall clock",
    "totals.gpu_hours": "GPU-hours",
    "totals.gpu_hours_paid": "GPU-hours paid",
    "totals.cost_usd": "cost",
    "steady_state.gpu_hours_per_trillion_tokens": "GPU-hours per T tokens",
    "totals.cost_usd_per_trillion_tokens": "cost per T tokens",
    "model.num_parameters": "parameters",
    "model.num_active_parameters": "active parameters",
}
"""Key of the comparison → what it is called on a page."""
LOWER_IS_BETTER: Final[Mapping[str, bool]] = {
    "step.step_s": True,
    "step.tokens_per_s_per_gpu": False,
    "step.mfu.bf16_dense_causal": False,
    "step.bubble_s": True,
    "step.exposed_comm_s": True,
    "step.optimizer_s": True,
    "memory.peak_bytes_per_gpu": True,
    "totals.wall_s": True,
    "totals.gpu_hours": True,
    "totals.gpu_hours_paid": True,
    "totals.cost_usd": True,
    "steady_state.gpu_hours_per_trillion_tokens": True,
    "totals.cost_usd_per_trillion_tokens": True,
}
"""Keys of which one direction is good news."""

HEADLINE: Final[Mapping[str, str]] = {
    "cost": "totals.cost_usd",
    "wall_clock": "totals.wall_s",
    "memory": "memory.verdict",
    "step": "step.step_s",
    "throughput": "step.tokens_per_s_per_gpu",
}
"""Key of `headline.figures` → key of the comparison."""


@dataclass(frozen=True, slots=True)
class ShownResult:
    """A figure of both sides. change: "+31.9 %", "" where it cannot be counted. is_better: None where neither is.

    before_range, after_range: of the 90 % intervals, "" where there is none. is_sure: whether the intervals share no value.
    """

    key: str
    label: str
    before: str
    after: str
    change: str
    before_range: str
    after_range: str
    is_better: bool | None
    is_sure: bool | None


def shown_results(beside: Beside) -> tuple[ShownResult, ...]:
    """The changed figures, in their order."""
    return tuple(_shown(row) for row in beside.results)


def names(comparison: Comparison) -> tuple[str, ...]:
    """A name for each run, the base first. What is called as one before it gets its first changes, "deepseek-v3: schedule
    1f1b", or where there is none a number, "deepseek-v3 (2)".
    """
    found: list[str] = [comparison.base or NONE]
    for run, beside in zip(comparison.runs[1:], comparison.others, strict=True):
        name = run.scenario or NONE
        if name in found and beside.changed:
            changes = [f"{key.rpartition('.')[2]} {after}" for key, _, after in inputs(beside)]
            name = f"{name}: {', '.join(changes[:NUM_NAMED])}{', …' if len(changes) > NUM_NAMED else ''}"
        unlike, number = name, 1
        while unlike in found:
            number += 1
            unlike = f"{name} ({number})"
        found.append(unlike)
    return tuple(found)


def largest_parts(parts: Sequence[StepDifference], number: int) -> list[tuple[str, float]]:
    """(words, seconds) of the largest parts of a difference, at most so many and no slivers, and of all that is left."""
    least = SLIVER * max((abs(part.seconds) for part in parts), default=0.0)
    shown = [part for part in parts[:number] if abs(part.seconds) >= least]
    rest = parts[len(shown) :]
    found = [(category_words(part.category), part.seconds) for part in shown]
    return found + ([(f"{len(rest)} smaller", fsum(part.seconds for part in rest))] if rest else [])


def inputs(beside: Beside) -> tuple[tuple[str, str, str], ...]:
    """(key, before, after) of the changed inputs; of another model its name alone, of another node or fabric too."""
    keys = {row.key for row in beside.changed}
    whole = tuple(f"{section}." for section in ("model", "cluster.node", "cluster.fabric") if f"{section}.name" in keys)
    rows = [row for row in beside.changed if not row.key.startswith(whole) or row.key.endswith(".name")]
    return tuple((row.key, *_values(row)) for row in rows)


def step_change(comparison: Comparison, place: int) -> str:
    """'The step takes 6.1 s more: 31.9 % longer.' of one of the others, by its place from 0; what both share and what not."""
    beside = comparison.others[place]
    row = next((row for row in beside.results if row.key == "step.step_s"), None)
    if row is None or row.from_ is None or row.to is None:
        return "The steps take the same time."
    more = row.to - row.from_
    share = numbers.percent(abs(more / row.from_))
    words = f"The step takes {numbers.seconds(abs(more))} {'more' if more > 0 else 'less'}, {share}."
    shares = not any(each.key.startswith("assumptions.") for each in beside.changed)
    return f"{words} {certainty(row, comparison.runs[0], comparison.runs[place + 1], shares)}".rstrip()


def headline(comparison: Comparison, place: int, other: RunResult) -> tuple[tuple[str, str, str, bool | None], ...]:
    """(label, value, change to the base, lower is better) of what everybody asks first of one of the others.

    other: the run at that place. change: "" where it is the same; of a verdict what it was before.
    """
    rows = {row.key: row for row in shown_results(comparison.others[place])}
    found = []
    for each in figures(other):
        key = HEADLINE.get(each.key)
        if key is None:
            continue
        row = rows.get(key)
        change = "" if row is None else row.change or f"before: {row.before}"
        found.append((each.label, each.value, change, LOWER_IS_BETTER.get(key)))
    return tuple(found)


def certainty(row: ChangedResult, base: ComparedRun, other: ComparedRun, shares_assumptions: bool) -> str:
    """What the two 90 % intervals allow to say of a difference. shares_assumptions: none was given another value."""
    if row.intervals_overlap is None:
        return ""
    if not row.intervals_overlap:
        return "The 90 % intervals share no value."
    if base.stack == other.stack and base.version == other.version and shares_assumptions:
        return (
            "That is less than the uncertainty of each alone; but both rest on the same measurements and assumptions, whose "
            "errors move both alike where both use them, so that the difference is better known than either."
        )
    words = "That is less than the uncertainty of each, and they rest on unlike measurements or assumptions"
    return f"{words}: which is faster is not settled."


def _shown(row: ChangedResult) -> ShownResult:
    before, before_range = _text(row.key, row.from_, row.from_interval)
    after, after_range = _text(row.key, row.to, row.to_interval)
    lower = LOWER_IS_BETTER.get(row.key)
    is_better = None
    if lower is not None and row.from_ is not None and row.to is not None:
        is_better = (row.to < row.from_) == lower
    change = "" if row.relative is None else numbers.signed_percent(row.relative)
    sure = None if row.intervals_overlap is None else not row.intervals_overlap
    return ShownResult(
        row.key, LABELS[row.key], before, after, change, before_range, after_range, is_better, sure
    )  # fmt: skip


def _text(key: str, value: JsonValue, interval: Interval | None) -> tuple[str, str]:
    """A value and its interval as texts."""
    if value is None:
        return NONE, ""
    if isinstance(value, str | bool):
        return numbers.by_key("", value), ""
    if key.endswith("step_s"):
        shown, _, rest = numbers.step_time(value, interval).partition(" (")
        return shown, f"{rest.rstrip(')')} s" if rest else ""
    if key.endswith("wall_s") and interval is not None:
        return numbers.duration_estimate(value, interval)
    uncertainty = None if interval is None else interval.width / 2
    shown = _PLAIN.get(key, _quantity)(value, uncertainty)
    return shown, "" if interval is None else _range(key, interval)


def _range(key: str, interval: Interval) -> str:
    if key in _PLAIN and "usd" not in key:
        return " to ".join(_PLAIN[key](end, interval.width / 2) for end in (interval.low, interval.high))
    return numbers.amount_range(interval.low, interval.high)


def _quantity(value: float, uncertainty: float | None) -> str:
    return numbers.quantity(value, uncertainty)


_PLAIN: Final[Mapping[str, Callable[[float, float | None], str]]] = {
    "step.tokens_per_s_per_gpu": numbers.whole,
    "step.mfu.bf16_dense_causal": lambda value, _: numbers.percent(value),
    "step.bubble_s": lambda value, _: numbers.seconds(value),
    "step.exposed_comm_s": lambda value, _: numbers.seconds(value),
    "step.optimizer_s": lambda value, _: numbers.seconds(value),
    "memory.peak_bytes_per_gpu": lambda value, _: numbers.amount_of_bytes(value),
    "totals.cost_usd": numbers.usd,
    "totals.cost_usd_per_trillion_tokens": numbers.usd,
}


def _values(row: ChangedInput) -> tuple[str, str]:
    before, after = (_value(row.key, value) for value in (row.from_, row.to))
    if before == after and not isinstance(row.from_, Sequence | Mapping):
        return repr(row.from_), repr(row.to)  # digits that a rounded text hides
    return before, after


def _value(key: str, value: Any) -> str:
    """An input's value on one side."""
    if value is None:
        return NOT_SET
    if isinstance(value, list | tuple):
        return _cut(" ".join(str(each) for each in value))
    if isinstance(value, Mapping):
        return _cut(str(value.get("name", dict(value))))
    if key.endswith("tokens"):
        return f"{numbers.amount(value)}"
    return _cut(numbers.by_key(key, value))


def _cut(words: str) -> str:
    return words if len(words) <= MAX_VALUE else f"{words[: MAX_VALUE - 1]}…"
