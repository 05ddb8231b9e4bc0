"""The report of a run that is known: the file in a format, and the page that a preview shows."""

from __future__ import annotations

from dashboards.progress import report_progress
from dashboards.source import Source
from simulator.report.formats import FORMATS, ReportItem
from simulator.report.html.blocks import Page
from simulator.report.items import item_of
from simulator.results.run_result import from_json


def file(source: Source, document: str, name: str) -> bytes:
    """The file of a format, to the last byte as `moesim report` writes it.

    document: the run of the source as JSON (`moesim run --json`). Raises InputError.
    """
    made = FORMATS[name]
    item = _item(source, document, with_timeline=made.has_timeline)
    report_progress(0.6, f"writing {name}")
    return made.render([item])


def preview(source: Source, document: str) -> Page:
    """What the HTML file shows, as texts, tables and pictures. document: as of `file`. Raises InputError."""
    from simulator.report.html.document import page

    item = _item(source, document, with_timeline=True)
    report_progress(0.6, "tables and pictures")
    return page([item])


def _item(source: Source, document: str, *, with_timeline: bool) -> ReportItem:
    report_progress(0.1, "one random draw, every operator" if with_timeline else "reading the run")
    return item_of(source.load(), from_json(document), with_timeline=with_timeline)
