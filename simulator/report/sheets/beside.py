"""Below the sheet Summary, of two or more scenarios: the costs in a small table, and their chart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import xlsxwriter

from simulator.report.sheets import number_codes
from simulator.report.sheets.figures import FIRST, known
from simulator.report.sheets.phases import END_TITLES, ENDS
from simulator.report.sheets.sheet import Cell, Sheet
from simulator.report.theme import PAGES, SERIES

AXIS: Final = '[>=1000000]#,##0.0,," M";[>=1000]#,##0," K";#,##0'
GRID: Final = {"visible": True, "line": {"color": PAGES["light"].line}}
BELOW: Final = FIRST + len(ENDS)
"""Column of the lower half of the intervals; the upper one follows."""


def write(
    sheet: Sheet,
    book: xlsxwriter.Workbook,
    row: int,
    names: Sequence[str],
    written: Mapping[str, Sequence[Mapping[str, Cell]]],
) -> None:
    """A row a scenario: its cost with the ends, or GPU-hours where one has no price; and columns with error bars."""
    costs = written["Cost"]
    words, unit, cells = "Cost", "USD", costs
    if not all(known(cell) for each in costs for cell in each.values()):
        words, unit, cells = "GPU-hours", "GPU-hours", written["GPU-hours"]
    header = sheet.styles.header()
    for column, title in enumerate((f"{words} beside one another", "unit", *END_TITLES, "below", "above")):
        sheet.text(row, column, title, header)
    first = row + 1
    for idx, (name, each) in enumerate(zip(names, cells, strict=True)):
        sheet.text(first + idx, 0, name, sheet.styles.name())
        sheet.text(first + idx, 1, unit)
        low, value, high = (each[end].term for end in ("low", "value", "high"))
        half = (high.value - low.value) / 2
        for column, term in enumerate((value, low, high, value - low, high - value), start=FIRST):
            sheet.put(first + idx, column, term, sheet.styles.number(number_codes.amount(term.value, half)))
    _chart(sheet, book, f"{words} in {unit}, 90 % interval", first, first + len(names) - 1)


def _chart(sheet: Sheet, book: xlsxwriter.Workbook, title: str, first: int, last: int) -> None:
    """Columns with error bars; an invisible line at the upper ends keeps these inside the axis."""
    chart, ends = book.add_chart({"type": "column"}), book.add_chart({"type": "line"})
    categories = [sheet.name, first, 0, last, 0]
    chart.add_series({
        "categories": categories, "values": [sheet.name, first, FIRST, last, FIRST], "name": title,
        "fill": {"color": SERIES[0]}, "gap": 120,
        "y_error_bars": {
            "type": "custom",
            "plus_values": _span(sheet, first, last, BELOW + 1), "minus_values": _span(sheet, first, last, BELOW),
        },
    })  # fmt: skip
    high = FIRST + ENDS.index("high")
    values = [sheet.name, first, high, last, high]
    ends.add_series({"categories": categories, "values": values, "name": "high", "line": {"none": True}})
    chart.combine(ends)
    chart.set_title({"name": title, "name_font": {"size": 11}})
    chart.set_legend({"none": True})
    chart.set_y_axis({"min": 0, "num_format": AXIS, "major_gridlines": GRID})
    chart.set_size({"width": 700, "height": 280})
    sheet.page.insert_chart(last + 2, 0, chart, {"description": title})


def _span(sheet: Sheet, first: int, last: int, column: int) -> str:
    letter = chr(ord("A") + column)
    return f"={sheet.name}!${letter}${first + 1}:${letter}${last + 1}"
