"""Tables of the instrument on a terminal and as Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, TextIO

from rich.console import Group, RenderableType
from rich.text import Text

from simulator.report import markdown_text
from simulator.report.layout import needed_width, plain_table, shortened, text
from simulator.report.terminal import print_plainly
from validation.instrument.table import Table

LEAST_CELL = 12
"""Letters that a long last cell keeps."""
FIGURE: Final = re.compile(r"[-+.,\d]+( (%|s|->) ?[-+.,\d]*)*")
"""Numbers, percentages, seconds, and "before -> now" of them."""


def print_tables(tables: Sequence[Table], file: TextIO) -> None:
    """The tables under one another, in as many columns as there are."""

    def render(width: int) -> RenderableType:
        parts: list[RenderableType] = []
        for table in tables:
            parts += [Text(), Text(table.title, style="bold"), *([Text(table.note, style="dim")] if table.note else [])]
            parts.append(_fitted(table, width))
        return Group(*parts[1:])

    print_plainly(render, file)


def _fitted(table: Table, width: int) -> RenderableType:
    """Without the columns to spare where all take more than `width`; of what is still too wide the widest column is cut."""
    places = list(range(len(table.headers)))
    if _width(table, places) > width:
        places = [place for place in places if place not in table.spare]
    widest = max(places, key=lambda place: _longest(table, place))
    room = width - (_width(table, places) - _longest(table, widest))
    shown = plain_table(*(table.headers[place] for place in places))
    for row in table.rows:
        cells = [shortened(row[place], max(room, LEAST_CELL)) if place == widest else row[place] for place in places]
        shown.add_row(*map(text, cells))
    return shown


def _width(table: Table, places: Sequence[int]) -> int:
    return needed_width([[line[place] for line in (table.headers, *table.rows)] for place in places])


def _longest(table: Table, place: int) -> int:
    return max(len(line[place]) for line in (table.headers, *table.rows))


def markdown(tables: Sequence[Table]) -> str:
    """The tables as Markdown, their titles in bold."""
    lines: list[str] = []
    for table in tables:
        lines += [f"**{markdown_text.prose(table.title)}**", ""]
        if table.note:
            lines += [markdown_text.prose(table.note), ""]
        cells = ([_cell(cell) for cell in row] for row in table.rows)
        lines += [*markdown_text.table(table.headers, cells, table.left), ""]
    return "\n".join(lines)


def _cell(words: str) -> str:
    """A figure as it is, anything else so that each of its characters stands for itself."""
    return words if FIGURE.fullmatch(words) else markdown_text.prose(words)
