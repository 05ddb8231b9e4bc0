"""CSV: one long table for pivot tables and other programs. UTF-8, a header, fixed row order, no text that is a formula."""

from __future__ import annotations

from collections.abc import Sequence

from simulator.report.formats import ReportItem, register


def render(items: Sequence[ReportItem]) -> bytes:
    """The rows of all items, the scenario in the first column."""
    from simulator.report.csv_text import table

    return table(items).encode()


register("csv", ".csv", "text/csv", render)
