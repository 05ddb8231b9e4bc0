"""The spreadsheet as a whole: five sheets, the same bytes for the same results."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from io import BytesIO
from typing import Final

import xlsxwriter

from simulator.report.formats import ReportItem
from simulator.report.labels import labels
from simulator.report.sheets import assumptions, beside, breakdown, phases, sources, summary
from simulator.report.sheets.sheet import Sheet
from simulator.report.sheets.styles import Styles
from simulator.results.document import to_document

ON_A_PAGE: Final = 3
"""Scenarios whose summary is printed on one page."""
CREATED: Final = datetime(2000, 1, 1)  # noqa: DTZ001
"""The date in the file's properties: no clock is read."""
OPTIONS: Final = {
    "in_memory": True,
    "strings_to_formulas": False,
    "strings_to_urls": False,
    "strings_to_numbers": False,
    "nan_inf_to_errors": False,
}


def render(items: Sequence[ReportItem]) -> bytes:
    """The file of at least one item. Raises ValueError where a figure is not finite."""
    results = [item.result for item in items]
    for result in results:
        to_document(result)  # raises where a figure is not finite
    names = labels(results)
    buffer = BytesIO()
    book = xlsxwriter.Workbook(buffer, OPTIONS)
    book.set_properties({"title": "Cost of a training run", "author": "moesim", "created": CREATED})
    styles = Styles(book)
    pages = {
        name: Sheet(book, styles, name)
        for name in (summary.NAME, phases.NAME, breakdown.NAME, assumptions.NAME, sources.NAME)
    }
    inputs = summary.write_inputs(pages[summary.NAME], names, results)
    totals = phases.write(pages[phases.NAME], names, results, inputs)
    written, row = summary.write_results(pages[summary.NAME], names, results, inputs, totals)
    if len(results) > 1:
        beside.write(pages[summary.NAME], book, row + 1, names, written)
    breakdown.write(pages[breakdown.NAME], book, names, results, totals)
    assumptions.write(pages[assumptions.NAME], names, results, totals)
    sources.write(pages[sources.NAME], names, items)
    if len(results) <= ON_A_PAGE:
        pages[summary.NAME].page.fit_to_pages(1, 1)
    pages[summary.NAME].page.activate()
    book.close()
    return buffer.getvalue()
