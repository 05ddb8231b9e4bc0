"""Units of stated assumptions, and which numbers each allows: no statement and no scenario goes beyond them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from hwprofiles.names import nearest
from hwprofiles.units import EXA, GIGA, KILO, MEGA, PETA, TERA


@dataclass(frozen=True, slots=True)
class Bounds:
    """low and high: the ends, both allowed; only_ends: nothing in between is."""

    low: float
    high: float
    only_ends: bool = False

    def hold(self, number: float) -> bool:
        """Whether the number is allowed."""
        return number in (self.low, self.high) if self.only_ends else self.low <= number <= self.high

    def __str__(self) -> str:
        return f"{self.low:g} {'or' if self.only_ends else 'to'} {self.high:g}"


SWITCH: Final = "switch"
"""The unit of what is on (1) or off (0)."""

ASSUMPTION_UNITS: Final[Mapping[str, Bounds]] = MappingProxyType(
    {
        "fraction": Bounds(0.0, 1.0),
        # Software that reaches a hundredth of a link's rate is another fault; at none nothing would ever arrive.
        "fraction of a rate": Bounds(0.01, 1.0),
        SWITCH: Bounds(0.0, 1.0, only_ends=True),
        # One of 101 positive numbers holds all: 10.
        "coefficient of variation": Bounds(0.0, 10.0),
        # Fastest and slowest of a thousand chips differ by a factor 4 at 0.2, as device.speed_cv allows.
        "coefficient of variation of speed": Bounds(0.0, 0.2),
        # Beyond it the loads of a step say nothing about the next one's.
        "relative change a step": Bounds(0.0, 0.1),
        # Scores lie between 0 and 1; a tenth of that a step is no balancing any more.
        "score a step": Bounds(0.0, 0.1),
        "log affinity": Bounds(0.0, 100.0),
        # At 1 a sequence keeps to a few experts; from some thousand on its tokens are independent.
        "concentration": Bounds(1.0, MEGA),
        # No rank holds less than the even share when it is the fullest, and none more than all.
        "ratio over even load": Bounds(1.0, KILO),
        # Releases of one kernel library; more is another kernel.
        "ratio of times": Bounds(0.1, 10.0),
        # Estimates of one amount; more is another amount.
        "ratio of bytes": Bounds(0.1, 10.0),
        "tokens": Bounds(1.0, MEGA),
        # A GEMM cut into more has fewer rows in each than a tile.
        "chunks": Bounds(1.0, 100.0),
        "SMs": Bounds(0.0, KILO),
        "s": Bounds(0.0, 1.0),
        # Of generating answers and of changing between that and training; an hour is a fault.
        "s a rollout": Bounds(0.0, 3_600.0),
        # How long reinforcement learning is: nobody publishes a run of a million updates, or of a million answers a prompt.
        "steps": Bounds(1.0, MEGA),
        "prompts": Bounds(1.0, MEGA),
        "answers": Bounds(1.0, MEGA),
        "bytes": Bounds(0.0, TERA),
        "bytes/s": Bounds(MEGA, PETA),
        "FLOP/s": Bounds(GIGA, EXA),
    }
)
"""Unit → its bounds."""


def bounds_problem(number: float, unit: str) -> str | None:
    """Why an assumption of this unit cannot have the number, with what is allowed; None where it can."""
    bounds = ASSUMPTION_UNITS[unit]
    return None if bounds.hold(number) else f"{number:g} is out of range; allowed {bounds} ({unit})"


def unit_problem(unit: str) -> str | None:
    """Why there is no such unit of assumptions; None where there is one."""
    return None if unit in ASSUMPTION_UNITS else f"no unit of assumptions ({unit}){nearest(unit, ASSUMPTION_UNITS)}"
