"""The comparison as Markdown for a pull request, at most 60 lines: changed inputs, changed results, the step by category."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from simulator.report import numbers
from simulator.report.comparison_text import (
    ShownResult,
    inputs,
    largest_parts,
    names,
    shown_results,
    step_change,
)
from simulator.report.facts import cut
from simulator.report.markdown_text import code, prose, table
from simulator.results.comparison import Beside, Comparison

MAX_LINES: Final = 60
MAX_FULL: Final = 3
"""Runs that are told in full; of more each is a line."""
MAX_ROWS: Final = 40
NUM_INPUTS: Final = 12
NUM_CATEGORIES: Final = 6
MAX_WARNING: Final = 300
FIXED: Final = 12
"""Lines of a run that is told in full, beside its results and warnings."""


def document(comparison: Comparison) -> str:
    """The text, with a final newline."""
    base, *others = names(comparison)
    lines = [f"### {', '.join(code(name) for name in others[:MAX_FULL])} beside {code(base)}", ""]
    if len(others) > MAX_FULL:
        lines = [f"### {len(others)} runs beside {code(base)}", "", *_in_lines(comparison, others)]
    else:
        budget = (MAX_LINES - 4) // len(others)
        for place, name in enumerate(others):
            lines += _in_full(comparison, place, (base, name), budget)
    versions = ", ".join(dict.fromkeys(run.version for run in comparison.runs))
    lines.append(f"<sub>{prose(cut(f'moesim {versions}', MAX_WARNING))}</sub>")
    return "\n".join(lines) + "\n"


def _in_full(comparison: Comparison, place: int, pair: tuple[str, str], budget: int) -> Iterator[str]:
    beside = comparison.others[place]
    warnings = [f"> {prose(cut(warning, MAX_WARNING))}" for warning in beside.warnings]
    for warning in warnings:
        yield from (warning, ">")
    if warnings:
        yield ""
    yield f"**Changed:** {changed(beside)}"
    yield ""
    rows = shown_results(beside)
    room = max(3, budget - FIXED - 2 * len(warnings))
    if rows:
        cells = [[row.label, _with(row.before, row.before_range), _with(row.after, row.after_range), _change(row)]
                 for row in rows[:room]]  # fmt: skip
        yield from table(["", *map(code, pair), "change"], cells)
        yield ""
    if len(rows) > room:
        yield f"and {len(rows) - room} smaller changes"
        yield ""
    yield f"**Step:** {prose(step_change(comparison, place))} {_parts(beside)}".rstrip()
    yield ""


def _in_lines(comparison: Comparison, others: list[str]) -> Iterator[str]:
    """Of each run its largest changes."""
    keys = ("step.step_s", "step.tokens_per_s_per_gpu", "totals.gpu_hours", "totals.cost_usd", "memory.verdict")
    labels = ("step", "tokens/s/GPU", "GPU-hours", "cost", "memory")
    rows = []
    for name, beside in zip(others[:MAX_ROWS], comparison.others, strict=False):
        found = {row.key: row for row in shown_results(beside)}
        cells = [f"{found[key].after} {_change(found[key])}".rstrip() if key in found else "same" for key in keys]
        rows.append([code(name), *cells])
    yield from table(["", *labels], rows)
    yield ""
    if len(others) > MAX_ROWS:
        yield f"and {len(others) - MAX_ROWS} more"
        yield ""
    warnings = dict.fromkeys(warning for beside in comparison.others for warning in beside.warnings)
    if warnings:
        yield f"> {prose(cut('; '.join(warnings), 3 * MAX_WARNING))}"
        yield ""


def changed(beside: Beside) -> str:
    """The inputs of a run that are not the base's, before and after; "nothing" where all are."""
    rows = inputs(beside)
    if not rows:
        return "nothing"
    shown = "; ".join(f"{code(key)} {code(before)} → {code(after)}" for key, before, after in rows[:NUM_INPUTS])
    return shown + (f"; and {len(rows) - NUM_INPUTS} more" if len(rows) > NUM_INPUTS else "")


def _with(value: str, interval: str) -> str:
    return f"{value} ({interval})" if interval else value


def _change(row: ShownResult) -> str:
    return f"**{row.change}**" if row.change else ""


def _parts(beside: Beside) -> str:
    """The largest parts of the difference as a sentence."""
    parts = largest_parts(beside.step_difference, NUM_CATEGORIES)
    texts = [f"{prose(words)} {numbers.signed_seconds(seconds)}" for words, seconds in parts]
    return f"Of it: {', '.join(texts)}." if texts else ""
