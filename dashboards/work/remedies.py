"""What to set instead, where a scenario cannot be: hundreds of others are tried."""

from __future__ import annotations

from dataclasses import replace

from dashboards.progress import report_progress
from dashboards.source import Source
from simulator import remedies as tried
from simulator.remedies import Remedy


def remedies(source: Source) -> tuple[Remedy, ...]:
    """The nearest values that a refused source loads with; none of one that loads, or that is refused for other reasons."""
    report_progress(0.1, "the values around what was asked for")
    error = source.error()
    if error is None:
        return ()
    return tried.remedies(error, lambda more: replace(source, overrides=(*source.overrides, *more)).load())
