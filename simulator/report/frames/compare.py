"""A comparison as tables: changed inputs and results as texts, the step's difference in seconds."""

from __future__ import annotations

import pandas as pd

from simulator.report.comparison_text import inputs, shown_results
from simulator.report.timeline_words import category_words
from simulator.results.comparison import Beside


def inputs_frame(beside: Beside) -> pd.DataFrame:
    """One row a changed key, in the scenario's order: key, before, after (texts)."""
    return pd.DataFrame(inputs(beside), columns=["key", "before", "after"])


def results_frame(beside: Beside) -> pd.DataFrame:
    """One row a changed figure, the biggest effect first: figure, before, after, change (texts with unit), and of the 90 %
    intervals before_range, after_range.
    """
    rows = [
        (row.label, row.before, row.after, row.change, row.before_range, row.after_range)
        for row in shown_results(beside)
    ]
    return pd.DataFrame(rows, columns=["figure", "before", "after", "change", "before_range", "after_range"])


def results_in_words(beside: Beside, base: str, other: str) -> pd.DataFrame:
    """The rows of `results_frame` under the runs' names, intervals in brackets: result, change, base, other."""
    rows = [
        (row.label, row.change, _with(row.before, row.before_range), _with(row.after, row.after_range))
        for row in shown_results(beside)
    ]
    return pd.DataFrame(rows, columns=["result", "change", base, other])


def _with(value: str, interval: str) -> str:
    return f"{value} ({interval})" if interval else value


def difference_frame(beside: Beside) -> pd.DataFrame:
    """One row a category, the biggest first: category, what (in words), difference_s; they sum to the steps' difference."""
    rows = [(part.category, category_words(part.category), part.seconds) for part in beside.step_difference]
    return pd.DataFrame(rows, columns=["category", "what", "difference_s"])
