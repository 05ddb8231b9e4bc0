"""Seconds of a kernel at speed 1, from those in the state of the chip in which it was measured.

first_launches is speed 1. sustained: alone, until the limit bound it: its speed follows from its energy. benchmark_loop:
between the two, its time burst / speed^share. in_step: among the kernels of a training step, taken as the step has it.
"""

from __future__ import annotations

from functools import lru_cache

from hwprofiles.power.model import Chip, fastest
from hwprofiles.provenance import State


@lru_cache(maxsize=65536)
def speed_when_measured(
    seconds: float, state: State, flop_j: float, byte_j: float, chip: Chip, loop_share: float
) -> float:
    """Speed at which a kernel alone took `seconds` in a state: 1 unless its power would have been over the limit.

    flop_j, byte_j: as of Load. loop_share: of the slow-down (in logarithms) that a benchmark's loop reaches, 0 to 1.
    """
    share = {"sustained": 1.0, "benchmark_loop": loop_share}.get(state, 0.0)
    if share == 0.0 or seconds <= 0.0 or flop_j <= 0.0:
        return 1.0

    def is_over(speed: float) -> bool:
        """Whether the kernel alone would draw too much at the limit's speed: it takes seconds * speed^(share - 1)."""
        energy_j = flop_j * chip.scale(speed) + byte_j
        return bool(chip.p0_w + energy_j / (seconds * speed ** (share - 1.0)) > chip.limit_w)

    return float(fastest(is_over, chip.warm_speed) ** share)
