"""What the hours of a phase are made of: a line each, with its range, what decides it, and figures that explain it."""

from __future__ import annotations

from typing import Final

from pydantic import Field

from simulator.results.document import ResultModel
from simulator.results.interval import Estimate, Interval

STEP: Final = "step"
"""What stands for the interval of the phase's step among what decides a line."""


class PhasePart(ResultModel):
    """A line of a phase's GPU-hours. note: how it is counted.

    decides: what moves it most: the key of an assumption, or STEP; decided: the line's GPU-hours
    when that alone goes to its ends; both absent where nothing moves it. facts: figures behind the line by name, SI.
    """

    name: str
    gpu_hours: Estimate
    decides: str | None = None
    decided: Interval | None = None
    note: str = ""
    facts: dict[str, float] = Field(default_factory=dict)
