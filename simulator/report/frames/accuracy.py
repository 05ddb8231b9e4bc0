"""The accuracy file as tables: a row a measured run, and the summary by GPU or family of models."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd

from simulator.report.accuracy import AccuracyRow, accuracy_of, family

COLUMNS = [
    "case", "gpu", "model", "stack", "group", "quantity", "measured", "predicted", "low", "high", "speed_error_frac",
    "is_inside", "source", "note",
]  # fmt: skip


def accuracy_frame(rows: Sequence[AccuracyRow]) -> pd.DataFrame:
    """One row a row, in their order: the figures in the unit of `quantity`, speed_error_frac above 0 where the prediction is
    too fast, is_inside the 90 % interval.
    """
    return pd.DataFrame([[getattr(row, name) for name in COLUMNS] for row in rows], columns=COLUMNS)


def summary_frame(rows: Sequence[AccuracyRow], by: Callable[[AccuracyRow], str]) -> pd.DataFrame:
    """One row a group, the most runs first: group, runs, mape, median, bias, coverage (fractions)."""
    names = dict.fromkeys(by(row) for row in rows)
    found = [(name, accuracy_of([row for row in rows if by(row) == name])) for name in names]
    lines = [
        (name, each.n, each.mape, each.median, each.bias, each.coverage) for name, each in found if each is not None
    ]
    lines.sort(key=lambda line: (-line[1], line[0]))
    return pd.DataFrame(lines, columns=["group", "runs", "mape", "median", "bias", "coverage"])


def by_gpu(row: AccuracyRow) -> str:
    """The row's GPU."""
    return row.gpu


def by_family(row: AccuracyRow) -> str:
    """The row's family of models."""
    return family(row.model)
