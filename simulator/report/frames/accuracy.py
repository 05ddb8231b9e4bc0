"""The accuracy file as tables: a row a measured run, and the summary by GPU or family of models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import astuple

import pandas as pd

from simulator.report.accuracy import AccuracyRow, accuracy_of, family
from simulator.report.accuracy_text import shown

COLUMNS = [
    "case", "gpu", "model", "stack", "group", "quantity", "measured", "predicted", "low", "high", "speed_error_frac",
    "is_inside", "source", "note",
]  # fmt: skip

SHOWN = [
    "run", "GPU", "model", "stack", "figure", "predicted", "90 % interval", "measured", "speed's error", "source", "note",
]  # fmt: skip
"""Columns of `shown_frame`, in the order of the fields of ShownRow."""


def accuracy_frame(rows: Sequence[AccuracyRow]) -> pd.DataFrame:
    """One row a row, in their order: the figures in the unit of `quantity`, speed_error_frac above 0 where the prediction is
    too fast, is_inside the 90 % interval.
    """
    return pd.DataFrame([[getattr(row, name) for name in COLUMNS] for row in rows], columns=COLUMNS)


def shown_frame(rows: Sequence[AccuracyRow], *, with_note: bool = False, with_stack: bool = False) -> pd.DataFrame:
    """One row a row as texts with their units: run, GPU, model, figure, predicted, 90 % interval, measured, error of the speed,
    source; with_note: also how it was run, or what a total contains; with_stack: also what it rests on.
    """
    lines = [astuple(shown(row)) for row in rows]
    left_out = [name for name, is_shown in (("note", with_note), ("stack", with_stack)) if not is_shown]
    return pd.DataFrame(lines, columns=SHOWN).drop(columns=left_out)


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
