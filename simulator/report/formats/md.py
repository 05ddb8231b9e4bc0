"""Markdown: for a pull request."""

from __future__ import annotations

from collections.abc import Sequence

from simulator.report.formats import ReportItem, register


def render(items: Sequence[ReportItem]) -> bytes:
    """At most 60 lines, whatever the items."""
    from simulator.report.markdown import document

    return document(items).encode()


register("md", ".md", "text/markdown", render)
