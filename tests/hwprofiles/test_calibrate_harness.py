"""How one kernel is timed, with a device and a clock of our own."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import count

import pytest

pytest.importorskip("torch")

from hwprofiles.calibration.calibrate.chip import Spans
from hwprofiles.calibration.calibrate.harness import FLAGGED, DeviceLost, Timing, measure
from hwprofiles.calibration.rates.case import Call, RateCase

STILL_HZ = 1.8e9


class FakeChip:
    """A device on which a call takes `seconds(n)` s in its n-th measured span, at the clock `hz(n)`."""

    on_gpu = True
    l2_bytes = 100.0
    issue_s = 1e-5
    told_issue_s = 0.0

    def __init__(self, seconds: Callable[[int], float], hz: Callable[[int], float] = lambda _: STILL_HZ) -> None:
        self.seconds, self.hz = seconds, hz
        self.number = count()
        self.rested: list[float] = []
        self.slept: list[float] = []
        self.is_lost = False
        self.is_waiting = False

    def now(self) -> float:
        return 0.0

    def rest(self, seconds: float) -> None:
        self.rested.append(seconds)

    def trial(self, call: Call) -> tuple[float, float]:
        call()
        return self.told_issue_s or self.issue_s, self.seconds(0)

    def waits(self, call: Call) -> bool:
        call()
        return self.is_waiting

    def spans(self, calls: Sequence[Call], sleep_s: float, busy_s: float = 0.0, *, each: bool = False) -> Spans:
        """Calls that the host issues in issue_s each; the device waits for it where it wakes up too early."""
        for call in calls:
            call()
        self.slept.append(sleep_s)
        one = self.seconds(number := next(self.number))
        issued_s = len(calls) * self.issue_s
        if issued_s > sleep_s:
            one = max(one, (issued_s - sleep_s) / len(calls))
        return Spans([one] * len(calls) if each else [one * len(calls)], self.hz(number), issued_s)

    def recover(self) -> None:
        if self.is_lost:
            raise RuntimeError("an illegal memory access was encountered")


def case(make: Callable[[], Call] = lambda: lambda: None, **more: object) -> RateCase:
    return RateCase({"part": "memory", "op": "copy", "bytes": 8}, make, operand_bytes=10.0, **more)  # type: ignore[arg-type]


def test_both_states_of_a_steady_kernel() -> None:
    first, loop = measure(case(), FakeChip(lambda _: 1e-4), Timing())
    assert (first["state"], loop["state"]) == ("first_launches", "benchmark_loop")
    assert first["seconds"] == pytest.approx(1e-4) == loop["seconds"]
    assert loop["clock_hz"] == STILL_HZ and not loop["note"]
    assert loop["calls"] == 5 * 50


def test_nothing_sleeps_before_calls_that_wait_for_the_device() -> None:
    chip = FakeChip(lambda _: 1e-4)
    chip.is_waiting = True
    first, loop = measure(case(), chip, Timing())
    assert first["seconds"] and loop["seconds"] and set(chip.slept) == {0.0}


def test_operands_take_turns_until_the_cache_is_turned_over() -> None:
    """Three times a cache of 100 bytes by operands of 10: thirty sets, each of which is used before one comes again."""
    made: list[int] = []
    used: list[int] = []

    def make() -> Call:
        made.append(len(made))
        return lambda mine=made[-1]: used.append(mine)

    measure(case(make), FakeChip(lambda _: 1e-4), Timing())
    assert made == list(range(30))
    assert used[:30] == made


@pytest.mark.parametrize("wrong", [math.nan, 0.0, -1e-6, math.inf])
def test_a_time_that_cannot_be_is_never_a_number(wrong: float) -> None:
    """Measured again, then a row without seconds."""
    (row,) = measure(case(), FakeChip(lambda _: wrong), Timing())
    assert "seconds" not in row
    assert "first_launches in 3 tries" in row["note"]


def test_one_wrong_time_is_measured_again() -> None:
    first, loop = measure(case(), FakeChip(lambda number: math.nan if number == 3 else 1e-4), Timing())
    assert first["seconds"] == pytest.approx(1e-4) == loop["seconds"]
    assert not first["note"]


def clocks(*of_spans: float) -> FakeChip:
    """The first launches, five batches; and so on again."""
    return FakeChip(lambda _: 1e-4, lambda number: STILL_HZ * of_spans[number % len(of_spans)])


def test_a_drifting_clock_is_flagged() -> None:
    """More than 10 % between two readings of the loop, three times: its seconds stay, and say that they are doubtful."""
    first, loop = measure(case(), clocks(1, 1, 0.85, 1, 1, 1), Timing())
    assert loop["note"].startswith(FLAGGED) and loop["seconds"] and not first["note"]
    within = measure(case(), clocks(1, 1, 0.92, 1, 1, 1), Timing())
    assert not any(row["note"] for row in within)


def test_a_chip_that_had_not_woken_up_is_flagged() -> None:
    """First launches at a lower clock than the loop's; a loop below the first launches is what the board's limit does."""
    first, loop = measure(case(), clocks(0.8, 1, 1, 1, 1, 1), Timing())
    assert first["note"].startswith(FLAGGED) and not loop["note"]
    limited = measure(case(), clocks(1, 0.8, 0.8, 0.8, 0.8, 0.8), Timing())
    assert not any(row["note"] for row in limited)


def test_a_drift_that_is_over_is_measured_again() -> None:
    settling = FakeChip(lambda _: 1e-4, lambda number: STILL_HZ * (0.85 if number == 3 else 1.0))
    rows = measure(case(), settling, Timing())
    assert not any(row["note"] for row in rows)
    assert next(settling.number) == 2 * 6


def test_unknown_clocks_are_no_fault() -> None:
    rows = measure(case(), FakeChip(lambda _: 1e-4, lambda _: math.nan), Timing())
    assert [row["clock_hz"] for row in rows] == ["", ""] and not rows[0]["note"]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RuntimeError("CUDA out of memory. Tried to allocate 80 GiB\nmore"), "not enough memory"),
        (RuntimeError("rowwise scaling needs compute capability 9.0\nmore"), "needs compute capability 9.0"),
        (AttributeError("module 'torch' has no attribute '_grouped_mm'"), "_grouped_mm"),
    ],
)
def test_what_cannot_run_says_why(error: Exception, told: str) -> None:
    def make() -> Call:
        raise error

    (row,) = measure(case(make), FakeChip(lambda _: 1e-4), Timing())
    assert told in row["note"] and "\n" not in row["note"] and "seconds" not in row


def test_memory_that_comes_free_is_used() -> None:
    """The first time there is too little; what others left is given back, and the kernel runs."""
    tried: list[int] = []

    def make() -> Call:
        tried.append(1)
        if len(tried) == 1:
            raise RuntimeError("CUDA out of memory")
        return lambda: None

    assert [row["state"] for row in measure(case(make), FakeChip(lambda _: 1e-4), Timing())] == [
        "first_launches", "benchmark_loop",
    ]  # fmt: skip


def test_a_device_that_answers_no_more_ends_the_run() -> None:
    def make() -> Call:
        raise RuntimeError("unspecified launch failure")

    chip = FakeChip(lambda _: 1e-4)
    chip.is_lost = True
    with pytest.raises(DeviceLost, match="unspecified launch failure"):
        measure(case(make), chip, Timing())


@pytest.mark.parametrize(("seconds", "calls"), [(1e-3, [4, 25]), (0.1, [2, 2]), (0.5, [1, 1])])
def test_long_kernels_are_called_less(seconds: float, calls: list[int]) -> None:
    assert [row["calls"] for row in measure(case(), FakeChip(lambda _: seconds), Timing())] == calls


@pytest.mark.parametrize(("seconds", "light", "rest_s"), [(0.1, False, 0.05), (0.1, True, 0.01), (1e-4, False, 0.03)])
def test_heavy_kernels_rest(seconds: float, light: bool, rest_s: float) -> None:
    chip = FakeChip(lambda _: seconds)
    measure(case(light=light), chip, Timing())
    assert chip.rested == pytest.approx([rest_s])


def test_the_launch_queue_is_not_overrun() -> None:
    """A call of 30 kernels: no more are queued than a driver takes while the device sleeps."""
    _, loop = measure(case(launches=30), FakeChip(lambda _: 1e-6), Timing())
    assert loop["calls"] == 5 * 30


@pytest.mark.parametrize("told", [1e-4, 1e-6])
def test_a_slow_host_is_not_timed(told: float) -> None:
    """A kernel of 2 us whose call takes the host 100 us, where the trial said less too: launched again behind longer sleeps."""
    chip = FakeChip(lambda _: 2e-6)
    chip.issue_s, chip.told_issue_s = 1e-4, told
    first, loop = measure(case(), chip, Timing())
    assert first["high"] == pytest.approx(2e-6) == loop["high"]
