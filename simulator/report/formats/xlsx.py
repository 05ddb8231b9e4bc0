"""XLSX: for finance, with totals that follow when a price or a token count is changed."""

from __future__ import annotations

from collections.abc import Sequence

from simulator.report.formats import ReportItem, register


def render(items: Sequence[ReportItem]) -> bytes:
    """One workbook of all items."""
    from simulator.report.sheets.workbook import render as workbook

    return workbook(items)


register("xlsx", ".xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", render)
