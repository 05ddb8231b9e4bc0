"""What the hours of a phase are made of: a line each, with its range and what decides it."""

from __future__ import annotations

from pydantic import Field

from simulator.results.document import ResultModel
from simulator.results.interval import Estimate


class PhasePart(ResultModel):
    """A line of a phase's GPU-hours. decides: what it depends on most, in words with figures; note: how it is counted."""

    name: str
    gpu_hours: Estimate
    decides: str = Field(min_length=1)
    note: str = ""
