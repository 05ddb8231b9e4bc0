"""JSON: the result document itself, as `moesim run --json` writes it; of several scenarios a list of them."""

from __future__ import annotations

from collections.abc import Sequence

from simulator.report.formats import ReportItem, register
from simulator.results.document import to_json


def render(items: Sequence[ReportItem]) -> bytes:
    """One document, or a list of documents in the order of the items."""
    results = [item.result for item in items]
    return to_json(results[0] if len(results) == 1 else results).encode()


register("json", ".json", "application/json", render)
