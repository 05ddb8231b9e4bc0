"""How right predictions are together: error, bias, coverage and the interval score, all of the step's time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, median
from typing import Any, Final

from validation.compare import LEAST
from validation.errors import error_figures
from validation.instrument.outcome import Outcome

MISSED: Final = 0.1
"""Share of the measured that a 90 % interval may miss."""


def statistics(rows: Sequence[Outcome]) -> dict[str, Any]:
    """Figures of predicted rows (all of them); only n where there are none.

    Errors are of the step's time, predicted over measured minus one, whatever figure a row gives: below 0 a prediction is too
    fast. mape: mean of their sizes; bias: mean with sign; p90: nine in ten are at most so large. coverage_90: share inside the
    90 % interval; half_width: median of half its width over the predicted time; interval_score: mean of `interval_score`.
    """
    if not rows:
        return {"n": 0}
    return {
        "n": len(rows),
        **error_figures([row.time_ratio[0] - 1.0 for row in rows]),
        "coverage_90": fmean(is_inside(row) for row in rows),
        "half_width": median(row.half_width for row in rows),
        "interval_score": fmean(interval_score(*row.time_ratio[1:]) for row in rows),
    }


def is_inside(row: Outcome) -> bool:
    """Whether the interval holds what was measured, its ends included."""
    _, low, high = row.time_ratio
    return low <= 1.0 <= high


def interval_score(low: float, high: float) -> float:
    """Score of a central 90 % interval of the time over the measured time, on the natural logarithm; lower is better.

    Gneiting and Raftery, Strictly proper scoring rules (JASA 102, 2007), eq. 43, with alpha = 0.1: (u - l) + 2/alpha (l - x)
    where x < l, + 2/alpha (x - u) where x > u; l = ln low, u = ln high, x = ln 1 = 0. On logarithms rows of all sizes are
    alike and a speed scores as its time does. 0.4 is an interval from -18 to +22 % that holds the truth. An end below LEAST
    counts as LEAST, since an interval from 0 on would score infinite.
    """
    lower, upper = math.log(max(low, LEAST)), math.log(high)
    return (upper - lower) + 2.0 / MISSED * (max(0.0, lower) + max(0.0, -upper))
