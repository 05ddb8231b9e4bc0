"""What timing needs of a device: launches behind a sleeping kernel, the time between moments, its clock, its cache."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Final, NamedTuple, Protocol

import torch

from hwprofiles.calibration.measuring import Clock, driver_number, sleep
from hwprofiles.calibration.nvml import Nvml
from hwprofiles.calibration.rates.case import Call
from hwprofiles.units import MEBI, MICRO

PROBED_S: Final = (200 * MICRO, 5200 * MICRO)
"""Sleeps behind which a call is launched to see whether it waits for the device."""
USUAL_L2_BYTES = 64 * MEBI
"""Of a GPU that does not tell."""


class Spans(NamedTuple):
    """Seconds of each call, or of all together; clock_hz of the SMs meanwhile (nan: unknown); issued_s: until the host had
    issued all, from the beginning of the sleep (0 on a processor, which issues nothing).
    """

    seconds: list[float]
    clock_hz: float
    issued_s: float


class Chip(Protocol):
    """A device that runs calls and tells how long they took."""

    @property
    def on_gpu(self) -> bool: ...
    @property
    def l2_bytes(self) -> float: ...
    def now(self) -> float: ...
    def rest(self, seconds: float) -> None: ...
    def trial(self, call: Call) -> tuple[float, float]: ...
    def waits(self, call: Call) -> bool: ...
    def spans(self, calls: Sequence[Call], sleep_s: float, busy_s: float = 0.0, *, each: bool = False) -> Spans: ...
    def recover(self) -> None: ...


class TorchChip:
    """Chip of torch. nvml: the driver's library; None without one, clocks are then unknown."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.on_gpu = device.type == "cuda"
        self._clock = Clock(device)
        self.now = time.perf_counter
        self._nvml: Nvml | None = None
        if self.on_gpu:
            try:
                self._nvml = Nvml(driver_number(device))
            except (OSError, RuntimeError):
                self._nvml = None

    @property
    def l2_bytes(self) -> float:
        """Of the last level of cache; 0 where operands need not take turns."""
        if not self.on_gpu:
            return 0.0
        return float(getattr(torch.cuda.get_device_properties(self.device), "L2_cache_size", 0) or USUAL_L2_BYTES)

    def rest(self, seconds: float) -> None:
        """Nothing is queued for so long."""
        self.wait()
        time.sleep(seconds)

    def trial(self, call: Call) -> tuple[float, float]:
        """Seconds that the host needs for a call, and those until it is done."""
        self.wait()
        begin = self.now()
        call()
        issued = self.now() - begin
        self.wait()
        return issued, self.now() - begin

    def waits(self, call: Call) -> bool:
        """Whether it waits for the device itself (a sort that reads its count): the host takes longer by a longer sleep."""
        short_s, long_s = (self.spans([call], sleep_s).issued_s for sleep_s in PROBED_S)
        return long_s - short_s > 0.5 * (PROBED_S[1] - PROBED_S[0])

    def spans(self, calls: Sequence[Call], sleep_s: float, busy_s: float = 0.0, *, each: bool = False) -> Spans:
        """Calls launched while the device sleeps; the clock is read in the middle of the busy_s that they shall take."""
        begin = self.now()
        if self.on_gpu:
            sleep(sleep_s)
        moments = [self._clock.mark()]
        for call in calls:
            call()
            if each:
                moments.append(self._clock.mark())
        if not each:
            moments.append(self._clock.mark())
        issued_s = self.now() - begin if self.on_gpu else 0.0
        clock_hz = self._sm_clock_hz(begin + sleep_s + 0.5 * busy_s)
        self.wait()
        return Spans([self._clock.between(begin, end) for begin, end in pairwise(moments)], clock_hz, issued_s)

    def wait(self) -> None:
        """Until this stream's work is done; a kernel that holds SMs on another one goes on."""
        if self.on_gpu:
            torch.cuda.current_stream().synchronize()

    def recover(self) -> None:
        """Gives memory back. Raises RuntimeError where the device answers no more."""
        if self.on_gpu:
            torch.cuda.synchronize()
            torch.cuda.empty_cache()

    def _sm_clock_hz(self, moment: float) -> float:
        """At a moment of `now`, or as soon as it is over."""
        if self._nvml is None:
            return math.nan
        time.sleep(max(moment - self.now(), 0.0))
        try:
            return self._nvml.sm_clock_hz()
        except RuntimeError:
            return math.nan
