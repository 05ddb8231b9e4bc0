"""The accuracy file as a table: a row a measured run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple

import pandas as pd

from simulator.report.accuracy import AccuracyRow
from simulator.report.accuracy_text import shown

SHOWN = [
    "run", "GPU", "model", "stack", "figure", "predicted", "90 % interval", "measured", "speed's error", "source", "note",
]  # fmt: skip
"""Columns of `shown_frame`, in the order of the fields of ShownRow."""


def shown_frame(rows: Sequence[AccuracyRow], *, with_note: bool = False, with_stack: bool = False) -> pd.DataFrame:
    """One row a row as texts with their units: run, GPU, model, figure, predicted, 90 % interval, measured, error of the speed,
    source; with_note: also how it was run, or what a total contains; with_stack: also what it rests on.
    """
    lines = [astuple(shown(row)) for row in rows]
    left_out = [name for name, is_shown in (("note", with_note), ("stack", with_stack)) if not is_shown]
    return pd.DataFrame(lines, columns=SHOWN).drop(columns=left_out)
