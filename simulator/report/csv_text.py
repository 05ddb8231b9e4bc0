"""A long table as CSV text: every text in quotes and without formulas, every number as it is."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Sequence
from typing import Final

from simulator.report.formats import ReportItem
from simulator.report.labels import labels
from simulator.report.long_table import rows

HEADER: Final = ("scenario", "section", "key", "value", "unit", "low", "high", "source")
_STARTS: Final = "=+\\-@\t\r\n＝＋－＠"
_FORMULA: Final = re.compile(rf"(?:^|(?<=[;\t\r\n]))(?=\s*[{_STARTS}])")
"""Where a spreadsheet would begin a formula: at the start, also behind spaces, and where a tab, a line end or another
country's separator begins a cell."""

Value = float | str | None


def table(items: Sequence[ReportItem]) -> str:
    """The header and the rows of every item, in their order. Raises ValueError where a number is not finite."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    writer.writerow(HEADER)
    for label, item in zip(labels([item.result for item in items]), items, strict=True):
        for row in rows(item.result):
            cells = (label, row.section, row.key, row.value, row.unit, row.low, row.high, row.source)
            writer.writerow([_cell(each) for each in cells])
    return buffer.getvalue()


def guarded(text: str) -> str:
    """The text with an apostrophe wherever a spreadsheet would begin a formula."""
    return _FORMULA.sub("'", text)


def _cell(value: Value) -> float | str:
    """Nothing is an empty text."""
    if value is None:
        return ""
    if isinstance(value, str):
        return guarded(value)
    if not math.isfinite(value):
        raise ValueError(f"{value} is no number that a table can hold")
    return value
