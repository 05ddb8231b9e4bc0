"""The terminal's comparison: of each run beside the base what was changed, what changed by it, and where the step's
difference comes from."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Final, TextIO

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from simulator.report import numbers
from simulator.report.comparison_text import (
    ShownResult,
    inputs,
    largest_parts,
    names,
    shown_results,
    step_change,
)
from simulator.report.layout import bars, needed_width, plain_table, shortened, text
from simulator.report.terminal import print_plainly
from simulator.results.comparison import Comparison, StepDifference

INDENT: Final = 2
NUM_INPUTS: Final = 24
NUM_PARTS: Final = 10
MAX_NAME: Final = 30
MAX_TITLE: Final = 120
STYLES: Final = {True: "green", False: "red", None: ""}


def print_comparison(comparison: Comparison, file: TextIO | None = None, width: int | None = None) -> None:
    """Writes it to `file` (default: standard output), `width` columns wide (default: as many as there are)."""
    print_plainly(lambda columns: comparison_report(comparison, columns), file or sys.stdout, width)


def comparison_report(comparison: Comparison, width: int) -> RenderableType:
    """Every run beside the base, one below the other."""
    base, *others = names(comparison)
    parts: list[RenderableType] = []
    for place, name in enumerate(others):
        parts += [Text()] if place else []
        parts.append(
            Text.assemble(
                text(shortened(name, MAX_TITLE), "bold"), "  beside  ", text(shortened(base, MAX_TITLE), "bold")
            )
        )
        for title, body in _sections(comparison, place, (base, name), width - INDENT):
            rows = list(body)
            if rows:
                parts += [Text(), Text(title, style="bold cyan"), *(Padding(row, (0, 0, 0, INDENT)) for row in rows)]
    return Group(*parts)


def _sections(
    comparison: Comparison, place: int, pair: tuple[str, str], width: int
) -> Iterable[tuple[str, Iterable[RenderableType]]]:
    beside = comparison.others[place]
    yield "Mind", [text(warning, "yellow") for warning in beside.warnings]
    yield "Changed inputs", _inputs(inputs(beside), width)
    yield "Changed results, the biggest effect first", _results(shown_results(beside), pair, width)
    difference = [text(step_change(comparison, place)), *_difference(beside.step_difference, width)]
    yield "Where the step's difference comes from", difference


def _inputs(rows: Sequence[tuple[str, str, str]], width: int) -> Iterable[RenderableType]:
    """A line each where they fit, else the values under the key."""
    if not rows:
        yield Text("none: the scenarios are the same", style="dim")
        return
    shown = rows[:NUM_INPUTS]
    if needed_width([[row[place] for row in shown] for place in range(3)]) + 3 <= width:
        table = plain_table("", "", "")
        table.columns[1].justify = table.columns[2].justify = "left"
        for key, before, after in shown:
            table.add_row(text(key), text(before, "dim"), Text.assemble("→ ", text(after)))
        yield table
    else:
        for key, before, after in shown:
            yield text(key)
            yield Text.assemble("  ", text(before, "dim"), " → ", text(after))
    if len(rows) > len(shown):
        yield Text(f"and {len(rows) - len(shown)} more: --json lists all", style="dim")


def _results(rows: Sequence[ShownResult], pair: tuple[str, str], width: int) -> Iterable[RenderableType]:
    """Both values, with their intervals where these fit, and the change."""
    if not rows:
        yield Text("none", style="dim")
        return
    headers = ["", *(shortened(name, MAX_NAME) for name in pair), "change"]
    cells = [
        [row.label, _with(row.before, row.before_range), _with(row.after, row.after_range), row.change] for row in rows
    ]
    ranges = "; 90 % intervals in brackets"
    if needed_width(list(zip(headers, *cells, strict=True))) > width:
        cells, ranges = [[row.label, row.before, row.after, row.change] for row in rows], ""
    if needed_width(list(zip(headers, *cells, strict=True))) > width:
        headers = ["", "before", "after", "change"]
    if needed_width(list(zip(headers, *cells, strict=True))) > width:
        headers, cells = ["", "after", "change"], [[label, *rest] for label, _, *rest in cells]
    table = plain_table(*headers)
    for row, each in zip(rows, cells, strict=True):
        style = STYLES[row.is_better]
        table.add_row(*map(text, each[:-1]), text(each[-1], style))
    yield table
    if any(row.is_sure is not None for row in rows) and ranges:
        yield Text(ranges.removeprefix("; "), style="dim")


def _with(value: str, interval: str) -> str:
    return f"{value} ({interval})" if interval else value


def _difference(parts: Sequence[StepDifference], width: int) -> Iterable[RenderableType]:
    """Seconds that each category adds or takes, with bars."""
    if not parts:
        return
    shown = largest_parts(parts, NUM_PARTS)
    labels, durations = [words for words, _ in shown], [seconds for _, seconds in shown]
    largest = max(map(abs, durations))
    unit, texts = numbers.column_of_seconds(durations, largest)
    signed = [each if each.startswith("-") else f"+{each}" for each in texts]
    taken = needed_width([labels, [f"{each} {unit}" for each in signed], [""]])
    lengths = bars([abs(seconds) / largest for seconds in durations], width - taken)
    table = plain_table("", "", "")
    table.columns[2].justify = "left"
    for seconds, label, each, bar in zip(durations, labels, signed, lengths, strict=True):
        bar.style = STYLES[seconds < 0]
        table.add_row(text(label), f"{each} {unit}", bar)
    yield table
    yield Text("of a mean pipeline rank; the parts sum to the difference of the steps", style="dim")
