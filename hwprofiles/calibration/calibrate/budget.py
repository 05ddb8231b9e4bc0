"""How the time is shared out. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

TOTAL_S: Final[Mapping[str, float]] = {"full": 440.0, "quick": 36.0, "cpu": 25.0}
"""Seconds of measuring; starting, fitting and writing come to it: 8 minutes, one minute, one minute in all."""
LEAST_SHARE: Final = 0.25
"""Of the time that kernels have at least, whatever the other parts take."""


def kernel_seconds(total_s: float, others_s: float) -> float:
    """Seconds for the kernels when the other parts take others_s."""
    return max(total_s - others_s, LEAST_SHARE * total_s)
