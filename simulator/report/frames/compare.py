"""A comparison as tables: changed inputs and results as texts."""

from __future__ import annotations

import pandas as pd

from simulator.report.comparison_text import inputs, shown_results
from simulator.results.comparison import Beside


def inputs_frame(beside: Beside) -> pd.DataFrame:
    """One row a changed key, in the scenario's order: key, before, after (texts)."""
    return pd.DataFrame(inputs(beside), columns=["key", "before", "after"])


def results_in_words(beside: Beside, base: str, other: str) -> pd.DataFrame:
    """One row a changed figure, the biggest effect first, as texts with units, intervals in brackets: result, change, and the
    figure of each run under its name.
    """
    rows = [
        (row.label, row.change, _with(row.before, row.before_range), _with(row.after, row.after_range))
        for row in shown_results(beside)
    ]
    return pd.DataFrame(rows, columns=["result", "change", base, other])


def _with(value: str, interval: str) -> str:
    return f"{value} ({interval})" if interval else value
