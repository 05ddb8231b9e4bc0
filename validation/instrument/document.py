"""The document of `moesim validate --cases FILE --json`: every row, and their summary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from validation.instrument.groups import by_group
from validation.instrument.noise import noise_floor
from validation.instrument.outcome import Outcome
from validation.instrument.pairs import pairs_summary
from validation.instrument.statistics import statistics
from validation.published.eligible import eligible as listed

NUM_WORST: Final = 10


def document(rows: Sequence[Outcome], leave_out: str | None = None) -> dict[str, Any]:
    """Rows in the file's order; of what was skipped no figure. leave_out: what their stacks were built without."""
    told = {"cases": [row.as_json() for row in rows], "summary": summary(rows)}
    return told if leave_out is None else {"left_out": leave_out, **told}


def summary(rows: Sequence[Outcome]) -> dict[str, Any]:
    """n: rows of the file; eligible: those that the figures are of (n of `statistics`); skipped: see `_skipped`.

    missed: rows of the committed list (validation/data/eligible.yaml) that give a speed and were not predicted. worst: the
    eligible rows that are furthest off, half as fast being as wrong as twice as fast. noise: how well rows repeat themselves
    (`noise_floor`); pairs: signs of what one change does (`pairs_summary`).
    """
    counted = eligible(rows)
    found = statistics(counted)
    return {
        **found,
        "n": len(rows),
        "predicted": sum(row.figure is not None for row in rows),
        "eligible": len(counted),
        "missed": [row.case_id for row in rows if row.figure is None and row.quantity and row.case_id in listed()],
        "noise": noise_floor(counted),
        "pairs": pairs_summary(counted),
        "by_group": by_group(counted),
        "worst": [_worst(row) for row in worst(counted)],
        "skipped": _skipped(rows),
    }


def eligible(rows: Sequence[Outcome]) -> list[Outcome]:
    """The rows that a summary is of."""
    return [row for row in rows if row.figure is not None and row.is_eligible]


def worst(rows: Sequence[Outcome], number: int = NUM_WORST) -> list[Outcome]:
    """The predicted rows with the largest errors, the largest first."""
    return sorted(rows, key=lambda row: (-abs(row.log_error), row.case_id))[:number]


def _skipped(rows: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Reasons without the details that are a row's own, the most frequent first. alone: rows that only this one holds back."""
    reasons = [{each.partition(": ")[0] for each in row.reasons} for row in rows if row.figure is None]
    counts = Counter(reason for each in reasons for reason in each)
    alone = Counter(reason for each in reasons if len(each) == 1 for reason in each)
    ranked = sorted(counts.items(), key=lambda each: (-each[1], each[0]))
    return [{"reason": reason, "rows": count, "alone": alone[reason]} for reason, count in ranked]


def _worst(row: Outcome) -> dict[str, Any]:
    assert row.figure is not None
    return {
        "case_id": row.case_id,
        "step_error_frac": row.time_ratio[0] - 1.0,
        "predicted_step_s": row.figure.step_s,
        "measured_step_s": row.measured_step_s,
        "parts_s": dict(row.figure.parts_s),
    }
