"""The terminal's table of cluster sizes: the smallest that fits, each size in its best layout, and what is taken, with why."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Final, TextIO

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from simulator.report import plan_words
from simulator.report.layout import needed_width, plain_table, text
from simulator.report.terminal import print_plainly
from simulator.results.plan_table import PlanResult

INDENT: Final = 2


def print_plan(result: PlanResult, file: TextIO | None = None, width: int | None = None) -> None:
    """Writes it to `file` (default: standard output), `width` columns wide (default: as many as there are)."""
    print_plainly(lambda columns: plan_report(result, columns), file or sys.stdout, width)


def plan_report(result: PlanResult, width: int) -> RenderableType:
    """The whole plan as one renderable, `width` columns wide."""
    parts: list[RenderableType] = [text(result.scenario, "bold")]
    for title, body in _sections(result, width - INDENT):
        lines = list(body)
        if lines:
            parts += [Text(), Text(title, style="bold cyan"), *(Padding(each, (0, 0, 0, INDENT)) for each in lines)]
    return Group(*parts)


def _sections(result: PlanResult, width: int) -> Iterable[tuple[str, Iterable[RenderableType]]]:
    yield "Smallest cluster", [text(plan_words.smallest(result))]
    yield "Cluster sizes", _table(result, width)
    yield "Layouts", _layouts(result)
    yield "Taken", [text(plan_words.taken(result), "bold"), *map(text, plan_words.reasons(result))]
    yield "The scenario's own layout", map(text, plan_words.given(result))
    yield "Mind", (text(note, "yellow") for note in result.notes)
    yield "Left out", (text(f"{reason}: {number:,} layouts") for reason, number in result.rejected.items())


def _table(result: PlanResult, width: int) -> Iterable[RenderableType]:
    """A line a size; where that is too wide, what binds stands below."""
    rows = [plan_words.cells(result, idx) for idx in range(len(result.rows))]
    binds = plan_words.COLUMNS.index("what binds")
    headers = list(plan_words.COLUMNS)
    is_wide = needed_width(list(zip(headers, *rows, strict=True))) > width
    if is_wide:
        headers.pop(binds)
    table = plain_table(*headers)
    table.columns[-1].justify = "left"
    if not is_wide:
        table.columns[binds].justify = "left"
    below = []
    for idx, cells in enumerate(rows):
        if is_wide and (words := cells.pop(binds)):
            below.append(f"{cells[0]}: {words}")
        style = "bold" if idx == result.chosen else "" if result.rows[idx].fits else "dim"
        table.add_row(*map(text, cells), style=style)
    yield table
    yield from (text(line, "dim") for line in below)


def _layouts(result: PlanResult) -> Iterable[RenderableType]:
    table = plain_table("", "")
    table.columns[0].justify, table.columns[1].justify = "right", "left"
    table.columns[1].no_wrap = False
    for gpus, words in plan_words.layouts(result.rows):
        table.add_row(text(gpus), text(words))
    yield table
