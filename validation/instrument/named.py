"""Rows that were skipped because something is wrong with them, not only missing: a line each for whoever wrote the table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from hwprofiles.problem import Problem
from hwprofiles.yaml_file import excerpt
from validation.instrument.outcome import Outcome
from validation.instrument.prediction import BAD_VALUE, FAILED, REFUSED
from validation.published.row import Row

WRONG: Final = (
    BAD_VALUE, "columns contradict each other", "case_id is there twice", "cannot be read", "unknown GPU",
    "schedule not known", "kind of attention not known", "recompute modules not named", REFUSED, FAILED,
)  # fmt: skip
"""Reasons that are about what stands in a row."""
LONGEST: Final = 300
"""Letters of a line."""


def wrong_rows(table: str, rows: Sequence[Row], runs: Sequence[Outcome]) -> list[Problem]:
    """Position, row and what is wrong, in the file's order; runs: what became of the rows."""
    return [
        Problem(f"{excerpt(table)}:{row.line}", excerpt(run.case_id), excerpt(reason, LONGEST))
        for row, run in zip(rows, runs, strict=True)
        for reason in run.reasons
        if reason.partition(": ")[0] in WRONG
    ]
