"""Energy of a load, and the speed at which its mean power meets a limit.

    E = P0 * T + sum of e_flop * (s / s_ref)^beta + sum of e_byte          T = compute / s + other
    s = the fastest speed <= 1 with E / T <= limit

s is the speed of arithmetic (GEMM, attention) over that of its first launches after a rest: a fast limiter holds those below
the boost clock already, so that 1 is measured, not a clock. Bytes of the memory cost the same at any speed, and what they bound
takes the same time. beta: voltage falls with the clock (2: in proportion; 0: not at all, at the voltage's floor).
s_ref: the speed at which the energies were measured, so that beta matters only away from it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

SLOWEST = 0.05
"""Least speed: a limit that idle power alone meets is no limit of arithmetic."""
HALVINGS = 52
"""Of an interval of speeds: down to the last bit."""


@dataclass(frozen=True, slots=True)
class Chip:
    """What a GPU draws. p0_w: waiting or communicating; beta, reference_speed: as above; limit_w: of the board.

    warm_speed: the most that it reaches some tenths of a second into its work, however little it draws.
    """

    p0_w: float
    beta: float
    reference_speed: float
    limit_w: float
    warm_speed: float = 1.0

    def scale(self, speed: float) -> float:
        """Energy of arithmetic at a speed over that at the reference speed."""
        return float((speed / self.reference_speed) ** self.beta)


@dataclass(frozen=True, slots=True)
class Load:
    """What a chip does over a window. compute_s: arithmetic at speed 1; other_s: everything else, waiting included.

    flop_j: energy of the arithmetic at the reference speed; byte_j: of the bytes moved.
    """

    compute_s: float
    other_s: float
    flop_j: float
    byte_j: float

    def seconds(self, speed: float) -> float:
        """The window's length."""
        return self.compute_s / speed + self.other_s

    def energy_j(self, speed: float, chip: Chip) -> float:
        """The window's energy."""
        return chip.p0_w * self.seconds(speed) + self.flop_j * chip.scale(speed) + self.byte_j

    def mean_w(self, speed: float, chip: Chip) -> float:
        """Mean power; 0 of an empty window."""
        seconds = self.seconds(speed)
        return self.energy_j(speed, chip) / seconds if seconds > 0.0 else 0.0


def solve(load: Load, chip: Chip) -> float:
    """The fastest speed, at most a warm chip's, at which mean power meets the limit (SLOWEST where none does). Power grows with
    speed.
    """
    if load.flop_j <= 0.0:
        return chip.warm_speed
    return fastest(lambda speed: load.mean_w(speed, chip) > chip.limit_w, chip.warm_speed)


def fastest(is_too_fast: Callable[[float], bool], most: float = 1.0) -> float:
    """The largest speed, SLOWEST to `most`, that is not too fast; is_too_fast: false up to some speed, true from there on."""
    if not is_too_fast(most):
        return most
    low, high = SLOWEST, most
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if is_too_fast(middle) else (middle, high)
    return low
