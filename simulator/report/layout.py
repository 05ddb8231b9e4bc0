"""Tables, texts and bars of the terminal report, in as many columns as there are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from simulator.report import numbers

GAP: Final = 2
"""Columns between the columns of a table."""
BAR_WIDTH: Final = 24
MIN_BAR_WIDTH: Final = 8


def text(words: str, style: str = "") -> Text:
    """Text from a scenario or a document: without characters that would steer the terminal."""
    return Text("".join(letter if letter.isprintable() else "�" for letter in words), style=style)


def shortened(words: str, width: int) -> str:
    """At most `width` letters, the last a "…" where some are left out."""
    return words if len(words) <= width else words[: width - 1] + "…"


def plain_table(*headers: str) -> Table:
    """A table without lines; columns as wide as their longest cell, the first to the left, the others to the right."""
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="dim", show_header=any(headers))
    for place, header in enumerate(headers):
        table.add_column(header, justify="left" if place == 0 else "right", no_wrap=True)
    return table


def grid(width: int, headers: Sequence[str], rows: Sequence[Sequence[str]], styles: Sequence[str]) -> Table:
    """Rows under their headers; where these are wider than `width`, turned: a line a header, a column a row.

    headers, and each row, start with the label; styles: one a row.
    """
    columns = list(zip(headers, *rows, strict=True))
    if needed_width(columns) <= width:
        table = plain_table(*headers)
        for row, style in zip(rows, styles, strict=True):
            table.add_row(*map(text, row), style=style)
        return table
    table = plain_table(*columns[0])
    for column, style in zip(table.columns[1:], styles, strict=True):
        column.style = style
    for each in columns[1:]:
        table.add_row(*map(text, each))
    return table


def needed_width(columns: Sequence[Sequence[str]]) -> int:
    """Columns on the screen that a table takes, given the cells of each of its columns."""
    return sum(max(map(cell_len, cells)) for cells in columns) + GAP * (len(columns) - 1)


def bars(fractions: Sequence[float], width: int) -> list[Text]:
    """A bar each, its length proportional to the fraction of the largest, which fills the width (at most BAR_WIDTH)."""
    longest = max(fractions, default=0.0) or 1.0
    columns = max(MIN_BAR_WIDTH, min(BAR_WIDTH, width))
    return [Text(numbers.bar(fraction / longest, columns), style="cyan") for fraction in fractions]
