"""HTML: one file for people, to open, to hand over, to print."""

from __future__ import annotations

from collections.abc import Sequence

from simulator.report.formats import ReportItem, register


def render(items: Sequence[ReportItem]) -> bytes:
    """One self-contained page."""
    from simulator.report.html.document import render as page

    return page(items)


register("html", ".html", "text/html", render, has_timeline=True)
