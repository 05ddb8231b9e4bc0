"""Calls that take turns: seconds of each out of the level-2 cache, one call a round of every one, so that all see one chip.

A round is issued while the device sleeps; in front of each call the cache is filled with something else. Reported is the
median over the rounds with the middle 80 %, and the SM clock in the middle of the rounds. The time of a call holds that between
its end and the moments around it, a microsecond or two, for all alike.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch

from hwprofiles.calibration.calibrate.chip import TorchChip
from hwprofiles.calibration.measuring import driver_number, middle
from hwprofiles.calibration.nvml import Nvml
from hwprofiles.units import MICRO

Call = Callable[[], Any]
ROUNDS: Final = 21
WARM_UP: Final = 2
FLUSHED: Final = 3.0
"""Bytes that go through the cache in front of a call, in its sizes."""
ISSUED: Final = 1.5
"""Sleep over the time that the host took to issue the round before."""
LEAST_SLEEP_S: Final = 300 * MICRO
POWER_S: Final = 1.5
"""Of calls one behind another whose watts are read; the first third is left to settle. The board's counter is renewed some ten
times a second."""
REST_S: Final = 0.05
"""In front of the rounds, so that what ran before is no part of their clock."""


@dataclass(frozen=True)
class Times:
    """Seconds of a call: median, ends of the middle 80 %; calls; clock_hz of the SMs (nan: unknown)."""

    seconds: float
    low: float
    high: float
    calls: int
    clock_hz: float


class Turns:
    """A device and what fills its cache."""

    def __init__(self, device: torch.device, rounds: int = ROUNDS) -> None:
        self.device, self.rounds = device, rounds
        self.chip = TorchChip(device)
        size = int(FLUSHED * self.chip.l2_bytes) or 1024
        self._filler = torch.empty(size, dtype=torch.uint8, device=device)

    def flush(self) -> None:
        """Writes more than the cache holds."""
        self._filler.fill_(1)

    def times(self, calls: Mapping[str, Call]) -> dict[str, Times]:
        """Of each call. Raises what a call raises."""
        names = list(calls)
        for call in calls.values():
            for _ in range(WARM_UP):
                call()
        sleep_s = self._sleep_s(calls)
        self.chip.rest(REST_S if self.chip.on_gpu else 0.0)
        found: dict[str, list[float]] = {name: [] for name in names}
        clocks: list[float] = []
        for turn in range(self.rounds):
            order = names[turn % len(names) :] + names[: turn % len(names)]
            queue = [each for name in order for each in (self.flush, calls[name])]
            spans = self.chip.spans(queue, sleep_s, each=True)
            if spans.issued_s > sleep_s and self.chip.on_gpu:
                sleep_s = ISSUED * spans.issued_s
                spans = self.chip.spans(queue, sleep_s, each=True)
            for name, seconds in zip(order, spans.seconds[1::2], strict=True):
                found[name].append(seconds)
            clocks.append(spans.clock_hz)
        known = [clock for clock in clocks if clock == clock]
        clock_hz = statistics.median(known) if known else float("nan")
        return {name: Times(*middle(seconds), len(seconds), clock_hz) for name, seconds in found.items()}

    def _sleep_s(self, calls: Mapping[str, Call]) -> float:
        """As long as the host needs for a round."""
        issued = sum(self.chip.trial(call)[0] + self.chip.trial(self.flush)[0] for call in calls.values())
        return max(LEAST_SLEEP_S, ISSUED * issued)

    def watts(self, call: Call, once_s: float) -> tuple[float, float]:
        """Power (W) and clock (Hz) of calls one behind another for POWER_S; nan where the driver does not tell."""
        if not self.chip.on_gpu:
            return float("nan"), float("nan")
        try:
            nvml = Nvml(driver_number(self.device))
            self._run(call, once_s, POWER_S / 3.0)
            begin, from_s = nvml.read(), self.chip.now()
            self._run(call, once_s, POWER_S * 2.0 / 3.0)
            end, seconds = nvml.read(), self.chip.now() - from_s
        except (OSError, RuntimeError):
            return float("nan"), float("nan")
        return (end.energy_j - begin.energy_j) / seconds, end.sm_clock_hz

    def _run(self, call: Call, once_s: float, seconds: float) -> None:
        for _ in range(max(1, round(seconds / once_s))):
            call()
        self.chip.wait()
