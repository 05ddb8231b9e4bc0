"""The table of `moesim validate`: one line a quantity, the stacks side by side, signed errors; on a narrow screen one line a
stack under each quantity.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

from rich.console import Group, RenderableType
from rich.text import Text

from simulator.report import numbers
from simulator.report.layout import needed_width, plain_table
from simulator.report.terminal import print_plainly
from validation.case import Case
from validation.compare import Row
from validation.instrument.table import Table

TITLE = "predicted beside published (signed error)"


def case_table(case: Case, rows: Sequence[Row]) -> Table:
    """The same in one piece: a line a quantity, the stacks side by side."""
    stacks, by_quantity = _sorted(rows)
    return Table(f"{case.case_id}: {TITLE}", *_side_by_side(stacks, by_quantity), case.note)


def print_table(case: Case, rows: Sequence[Row], file: TextIO) -> None:
    """Published figure, then prediction and signed error of each stack."""
    stacks, by_quantity = _sorted(rows)

    def render(width: int) -> RenderableType:
        parts: list[RenderableType] = [Text(f"{case.case_id}: {TITLE}")]
        parts.append(_wide(stacks, by_quantity, width) or _narrow(stacks, by_quantity))
        if case.note:
            parts.append(Text(case.note, style="dim"))
        return Group(*parts)

    print_plainly(render, file)


def _sorted(rows: Sequence[Row]) -> tuple[list[str], dict[str, list[Row]]]:
    """The stacks, and by quantity a row of each."""
    stacks = list(dict.fromkeys(row.stack for row in rows))
    return stacks, {
        quantity: [next(row for row in rows if (row.stack, row.quantity) == (stack, quantity)) for stack in stacks]
        for quantity in dict.fromkeys(row.quantity for row in rows)
    }


def _side_by_side(
    stacks: Sequence[str], by_quantity: dict[str, list[Row]]
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """(headers, a line a quantity)."""
    headers = ("quantity", "published", *(header for stack in stacks for header in (stack, "error")))
    lines = []
    for quantity, rows in by_quantity.items():
        cells = [cell for row in rows for cell in (_value(row.predicted, quantity), _error(row))]
        lines.append((quantity, _value(rows[0].measured, quantity), *cells))
    return headers, lines


def _wide(stacks: Sequence[str], by_quantity: dict[str, list[Row]], width: int) -> RenderableType | None:
    """The stacks side by side; None where that takes more than `width`."""
    headers, lines = _side_by_side(stacks, by_quantity)
    if needed_width(list(zip(headers, *lines, strict=True))) > width:
        return None
    table = plain_table(*headers)
    for line in lines:
        table.add_row(*line)
    return table


def _narrow(stacks: Sequence[str], by_quantity: dict[str, list[Row]]) -> RenderableType:
    """A line a stack under each quantity."""
    cells = {
        (quantity, row.stack): (_value(row.measured, quantity), _value(row.predicted, quantity), _error(row))
        for quantity, rows in by_quantity.items()
        for row in rows
    }
    headers = ("published", "predicted", "error")
    widths = [max(map(len, column)) for column in zip(headers, *cells.values(), strict=True)]
    label_width = max(map(len, stacks)) + 2

    def line(label: str, texts: Sequence[str]) -> Text:
        columns = "".join(f"  {text:>{width}}" for text, width in zip(texts, widths, strict=True))
        return Text(f"{label:<{label_width}}{columns}", no_wrap=True)

    lines = [line("", headers)]
    for quantity, rows in by_quantity.items():
        lines += [Text(quantity), *(line(f"  {row.stack}", cells[quantity, row.stack]) for row in rows)]
    return Group(*lines)


def _value(value: float, quantity: str) -> str:
    if quantity.endswith("_s"):
        return numbers.seconds_to_compare(value)
    if ".mfu." in quantity:
        return numbers.percent(value)
    return f"{value:,.4g}" if value < 1e5 else f"{value:,.0f}"


def _error(row: Row) -> str:
    return f"{100 * row.error_frac:+.1f} %"
