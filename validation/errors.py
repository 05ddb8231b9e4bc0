"""What signed relative errors come to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, median


def error_figures(errors: Sequence[float]) -> dict[str, float]:
    """Of at least one error: mape, the mean of their sizes; median and p90 of these; bias, the mean with sign."""
    sizes = sorted(map(abs, errors))
    return {"mape": fmean(sizes), "median": median(sizes), "p90": quantile(sizes, 0.9), "bias": fmean(errors)}


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value that `share` of the ascending values lie at or below: the smallest such one, no interpolation."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
