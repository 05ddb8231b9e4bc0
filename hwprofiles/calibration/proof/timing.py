"""Seconds of a device's work, its launches being queued before it begins, so that no processor is in them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch

from hwprofiles.calibration.measuring import Clock, middle, sleep

AHEAD: Final = 1.3
"""Seconds that the GPU waits, over those that the host needed to queue the same launches before."""
LONGER, MOST_LONGER = 1.5, 8.0
"""So much longer it waits behind a call that was not queued in time, and at most."""
LEAST_AHEAD_S: Final = 0.0005
MOST_AHEAD_S: Final = 0.25


@dataclass(frozen=True, slots=True)
class Timed:
    """Seconds of one call: median, and the ends of the middle 80 %."""

    seconds: float
    low: float
    high: float
    calls: int

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Timed:
        """Of several calls."""
        return cls(*middle(seconds), len(seconds))


class Queued:
    """Times calls on a device. On a GPU it spins while the host queues a call's kernels, then they run back to back.

    is_late: whether the last call's first kernel had begun before all of them were queued: the host may be in its time.
    """

    is_late = False

    def __init__(self, device: torch.device) -> None:
        self.device, self.clock = device, Clock(device)
        self._host_s: dict[str, float] = {}
        self._longer: dict[str, float] = {}

    def time(self, name: str, call: Callable[[], Any]) -> tuple[float, Any]:
        """(seconds, result). name: calls of one name take the host about as long."""
        if self.device.type == "cuda":
            ahead = AHEAD * self._longer.get(name, 1.0)
            ahead_s = min(MOST_AHEAD_S, max(LEAST_AHEAD_S, ahead * self._host_s.get(name, 0.0)))
            torch.cuda.synchronize(self.device)
            sleep(ahead_s)
        begun = time.perf_counter()
        begin = self.clock.mark()
        result = call()
        end = self.clock.mark()
        host_s = time.perf_counter() - begun
        if self.device.type == "cuda":
            self.is_late = bool(begin.query())
            if self.is_late:
                self._longer[name] = min(MOST_LONGER, LONGER * self._longer.get(name, 1.0))
        seconds = self.clock.between(begin, end)
        # A call that waits for the GPU itself would ask for longer and longer spins.
        self._host_s[name] = min(host_s, self._host_s.get(name, host_s))
        return seconds, result
