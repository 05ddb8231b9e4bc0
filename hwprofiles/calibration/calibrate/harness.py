"""The seconds of one kernel in two states of the chip, its faults told apart from its times.

`first_launches`, the shortest of a few launches after a rest, and `benchmark_loop`, the mean of launches one behind the other
for some 25 ms (median of BATCHES). Launches wait behind a sleeping kernel for as long as the host needs to issue them, so that
the host's own time does not count. Operands take turns and are together at least ROTATED times the level-2 cache, so that a
call finds none of its own there: as good as a flush, without a flush's time between two launches. Where a set of operands is so
small that MAX_COPIES of them are less than that, what is left in the cache is no more than a launch's own time hides.
"""

from __future__ import annotations

import gc
import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from itertools import cycle, islice
from typing import Any, Final

from hwprofiles.calibration.calibrate.chip import Chip, Spans
from hwprofiles.calibration.calibrate.store import FLAGGED, MAX_NOTE
from hwprofiles.calibration.rates.case import Call, RateCase
from hwprofiles.units import GIGA, MICRO

FIRST: Final = 4
"""Launches of which the shortest is the first launches' time; two go before the rest, to load the kernel, to see the host."""
BATCHES: Final = 5
ROTATED: Final = 3.0
MAX_COPIES: Final = 64
MAKING_S: Final = 0.25
"""Time for making copies of the operands."""
MAX_CALLS: Final = 400
MAX_QUEUED: Final = 900
"""Launches that a driver takes while the device sleeps; above, the host waits."""
REPEATS: Final = ((0.2, 1, 1), (0.03, 2, 2), (-1.0, FIRST, BATCHES))
"""Seconds of a call above which so many first launches and batches are enough."""
RESTED_CALLS: Final = 200
"""Rest before heavy kernels, in calls: the shorter one is, the less the clock matters to it."""
ISSUE_MARGIN: Final = 1.4
AFTER_REST: Final = 3.0
"""So much longer than in a row the host takes for a call behind a rest."""
FASTER: Final = 0.7
"""Host's share of the device's time below which the device does not wait for it."""
MARGIN_S: Final = 200 * MICRO
MAX_SLEEP_S: Final = 0.5
ISSUED_S: Final = 0.02
"""Host's time for a batch, at most."""
TRIES: Final = 3
"""Of a point whose times are no numbers or whose clock drifts."""
MAX_DRIFT: Final = 0.10


@dataclass(frozen=True)
class Timing:
    """rest_s: before the first launches of a heavy kernel, at most; light_rest_s: of others; loop_s: of the loop."""

    rest_s: float = 0.05
    light_rest_s: float = 0.01
    loop_s: float = 0.025


class DeviceLost(RuntimeError):
    """After a fault the device answers no more; every further kernel would fail too."""


def measure(case: RateCase, chip: Chip, timing: Timing) -> list[dict[str, Any]]:
    """Rows of a kernel: one a state, or one without seconds whose note says why. Raises DeviceLost.

    Where memory is short, what earlier kernels left is given back, and the kernel tried once more.
    """
    for attempt in range(2):
        reason, is_short = "", False
        try:
            return [{**case.cells, **row} for row in _measured(case, chip, timing)]
        except Exception as error:  # compilers and libraries have errors of their own
            reason, is_short = _reason(error), _is_short_of_memory(error)
        try:  # outside the handler, whose traceback holds the operands
            gc.collect()
            chip.recover()
        except RuntimeError as error:
            raise DeviceLost(f"{case.name}: {reason}; then {_reason(error)}") from None
        if attempt or not is_short:
            break
    return [{**case.cells, "note": reason}]


def _is_short_of_memory(error: BaseException) -> bool:
    return "out of memory" in str(error).lower() or "OutOfMemory" in type(error).__name__


def _reason(error: BaseException) -> str:
    """A line of it; out of memory is told in our own words, as the library's are a paragraph."""
    if _is_short_of_memory(error):
        return "not enough memory for its operands"
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"[:MAX_NOTE]


def _measured(case: RateCase, chip: Chip, timing: Timing) -> list[dict[str, Any]]:
    calls = cycle(_copies(case, chip))
    around: Callable[[], AbstractContextManager[Any]] = case.around or nullcontext
    next(calls)()
    with around():
        waits = chip.waits(next(calls))
        for _ in range(TRIES):
            found = _states(calls, case, chip, timing, waits=waits)
            if all(state.trouble == "" for state in found):
                break
    for state in found:
        if not state.sound:
            return [{"note": f"{state.trouble} in {TRIES} tries"}]
    return [state.row() for state in found]


def _copies(case: RateCase, chip: Chip) -> list[Call]:
    """Calls with operands of their own, as many as turn the cache over."""
    wanted = math.ceil(ROTATED * chip.l2_bytes / max(case.operand_bytes, 1.0))
    begin = chip.now()
    made = [case.make()]
    while len(made) < min(MAX_COPIES, wanted) and chip.now() - begin < MAKING_S:
        made.append(case.make())
    return made


@dataclass(frozen=True)
class _State:
    """Times of a state: `seconds` of them all; the clock (Hz, nan unknown) of each reading, and of those that it may not be
    below.
    """

    name: str
    seconds: float
    times: Sequence[float]
    calls: int
    clocks: Sequence[float]
    beside: Sequence[float] = ()

    @property
    def sound(self) -> bool:
        """Whether all times can be."""
        return all(math.isfinite(time) and time > 0.0 for time in self.times)

    @property
    def trouble(self) -> str:
        """What is wrong with it, or ""."""
        if not self.sound:
            wrong = next(time for time in self.times if not (math.isfinite(time) and time > 0.0))
            return f"a time of {wrong:g} s in {self.name}"
        low, high = min(_known(self.clocks), default=0.0), max(_known([*self.clocks, *self.beside]), default=0.0)
        if low and high > (1.0 + MAX_DRIFT) * low:
            return f"the SM clock moved between {low / GIGA:.3f} and {high / GIGA:.3f} GHz"
        return ""

    def row(self) -> dict[str, Any]:
        """Of points.csv."""
        clocks, trouble = _known(self.clocks), self.trouble
        return {
            "state": self.name, "seconds": self.seconds, "low": min(self.times), "high": max(self.times),
            "calls": self.calls, "clock_hz": statistics.median(clocks) if clocks else "",
            "note": f"{FLAGGED}{trouble} in {TRIES} tries" if trouble else "",
        }  # fmt: skip


def _known(clocks: Sequence[float]) -> list[float]:
    return [clock for clock in clocks if clock == clock and clock > 0.0]


def _states(calls: Iterator[Call], case: RateCase, chip: Chip, timing: Timing, *, waits: bool) -> list[_State]:
    """Both states. In the loop the clock may fall below that of the first launches, where the board's limit acts; that of the
    first launches below the loop's says that the chip had not woken up.
    """
    issued_s, once = chip.trial(next(calls))
    issue_s = issued_s + case.launches * MICRO
    number, batches = next(repeats for least_s, *repeats in REPEATS if not once <= least_s)
    chip.rest(timing.light_rest_s if case.light else min(timing.rest_s, timing.light_rest_s + RESTED_CALLS * once))
    first = _fed(chip, calls, number, number * AFTER_REST * issue_s + MARGIN_S, number * once, each=True, waits=waits)
    of_first = _State("first_launches", min(first.seconds), first.seconds, number, (first.clock_hz,))
    if not of_first.sound:
        return [of_first]
    shortest = of_first.seconds
    count = min(MAX_CALLS, MAX_QUEUED // max(case.launches, 1), round(timing.loop_s / batches / shortest))
    count = max(1, min(count, math.ceil(ISSUED_S / issue_s)))
    times, clocks = [], []
    sleep_s = max(2.0 * issue_s, count * (ISSUE_MARGIN * issue_s - 0.9 * shortest))
    for _ in range(batches):
        batch = _fed(chip, calls, count, sleep_s, count * shortest, waits=waits)
        times.append(batch.seconds[0] / count)
        clocks.append(batch.clock_hz)
        if batch.issued_s > FASTER * batch.seconds[0]:
            sleep_s = max(sleep_s, ISSUE_MARGIN * batch.issued_s)
    loop = _State("benchmark_loop", statistics.median(times), times, count * batches, clocks)
    return [replace(of_first, beside=clocks), loop]


def _fed(
    chip: Chip,
    calls: Iterator[Call],
    count: int,
    sleep_s: float,
    busy_s: float,
    *,
    each: bool = False,
    waits: bool = False,
) -> Spans:
    """Calls of which none waited for the host: all were issued while the device slept, or faster than it ran them.

    Where that cannot be said, they are launched again behind a longer sleep. Calls that wait for the device have no time
    without the host's: nothing sleeps in front of them.
    """
    if waits:
        return chip.spans(list(islice(calls, count)), 0.0, busy_s, each=each)
    for _ in range(TRIES):
        sleep_s = min(sleep_s, MAX_SLEEP_S) + MARGIN_S
        found = chip.spans(list(islice(calls, count)), sleep_s, busy_s, each=each)
        if found.issued_s <= max(sleep_s, FASTER * sum(found.seconds)):
            break
        sleep_s = ISSUE_MARGIN * found.issued_s
    return found
