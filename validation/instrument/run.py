"""A table of measured runs predicted as a whole: its document, and the rows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from validation.instrument import pool
from validation.instrument.ablation import contributions
from validation.instrument.document import document, eligible
from validation.instrument.leave_out import LeaveOut
from validation.instrument.outcome import Outcome
from validation.instrument.prediction import outcome
from validation.published.row import Row


def run_table(
    rows: Sequence[Row],
    leave_out: LeaveOut | None = None,
    names: Sequence[str] = (),
    progress: pool.Progress = lambda _: None,
) -> tuple[dict[str, Any], list[Outcome]]:
    """The document of `moesim validate --cases`, and what became of every row.

    leave_out: what the stacks are built without; names: mechanisms without which the rows are predicted too.
    """
    runs = pool.outcomes(rows, partial(outcome, leave_out=leave_out, ablate=names), progress=progress)
    told = document(runs, leave_out) | (contributions(eligible(runs), names) if names else {})
    return told, runs
