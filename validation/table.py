"""The table of `moesim validate`: one line a quantity, the stacks side by side, signed errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

from rich.console import Console
from rich.table import Table

from simulator.report import numbers
from validation.case import Case
from validation.compare import Row

WIDTH = 118


def print_table(case: Case, rows: Sequence[Row], file: TextIO) -> None:
    """Published figure, then prediction and signed error of each stack; readings other than the edge rank are marked."""
    stacks = list(dict.fromkeys(row.stack for row in rows))
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("quantity")
    table.add_column("published", justify="right")
    for stack in stacks:
        table.add_column(stack, justify="right")
        table.add_column("error", justify="right")
    for quantity in dict.fromkeys(row.quantity for row in rows):
        found = {row.stack: row for row in rows if row.quantity == quantity}
        cells = [cell for stack in stacks for cell in (_value(found[stack].predicted, quantity), _error(found[stack]))]
        table.add_row(quantity, _value(found[stacks[0]].measured, quantity), *cells)
    console = Console(file=file, width=WIDTH, highlight=False, markup=False, emoji=False)
    console.print(f"{case.case_id}: predicted beside published (signed error)")
    console.print(table)
    if case.note:
        console.print(case.note, style="dim")


def _value(value: float, quantity: str) -> str:
    if quantity.endswith("_s"):
        return numbers.seconds_to_compare(value)
    if ".mfu." in quantity:
        return numbers.percent(value)
    return f"{value:,.4g}" if value < 1e5 else f"{value:,.0f}"


def _error(row: Row) -> str:
    return f"{100 * row.error_frac:+.1f} %"
