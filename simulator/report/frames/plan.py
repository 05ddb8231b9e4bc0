"""The table of cluster sizes."""

from __future__ import annotations

import pandas as pd

from simulator.report import plan_words
from simulator.results.plan_table import PlanResult


def sizes_shown(result: PlanResult) -> pd.DataFrame:
    """The sizes as texts, a row a size, with the layout last; the column of marks first."""
    rows = [
        (mark, *cells, row.layout or "")
        for row, (*cells, mark) in zip(
            result.rows, (plan_words.cells(result, idx) for idx in range(len(result.rows))), strict=True
        )
    ]
    return pd.DataFrame(rows, columns=[" ", *plan_words.COLUMNS[:-1], "layout"])
