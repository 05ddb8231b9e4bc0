"""Figures of a summary against hand-computed ones: errors of the time, coverage, the interval score."""

import math
from dataclasses import replace

import pytest

from tests.validation.instrument.made_up import run
from validation.errors import quantile
from validation.instrument.groups import BY, FEW, MANY, by_group
from validation.instrument.statistics import interval_score, statistics


def test_three_rows_by_hand() -> None:
    """Predicted 2, 3 and 5 s where 2.5 s were measured: -20, +20, +100 %; the third interval misses."""
    rows = [run("a", 2.0, 1.0, 3.0), run("b", 3.0, 2.5, 4.0), run("c", 5.0, 4.0, 6.0)]
    found = statistics(rows)
    assert found["n"] == 3
    assert found["mape"] == pytest.approx((0.2 + 0.2 + 1.0) / 3)
    assert found["bias"] == pytest.approx((-0.2 + 0.2 + 1.0) / 3)
    assert found["median"] == pytest.approx(0.2)
    assert found["p90"] == pytest.approx(1.0)
    assert found["coverage_90"] == pytest.approx(2 / 3)
    assert found["half_width"] == pytest.approx(0.25), "of 0.5, 0.25 and 0.2"
    scores = [math.log(3.0), math.log(4.0 / 2.5), math.log(6.0 / 4.0) + 20 * math.log(4.0 / 2.5)]
    assert found["interval_score"] == pytest.approx(sum(scores) / 3)
    assert statistics([]) == {"n": 0}


def test_a_speed_counts_as_the_time_that_it_stands_for() -> None:
    """50 tokens/s predicted (40 to 100) for 100 measured is twice the time (1 to 2.5 times): too slow, and just covered."""
    speed = run("a", 50.0, 40.0, 100.0, quantity="tokens_per_s_per_gpu", measured=100.0)
    time = run("b", 5.0, 2.5, 6.25)
    assert speed.error_frac == pytest.approx(-0.5)
    assert speed.time_ratio == pytest.approx(time.time_ratio)
    ours, theirs = statistics([speed]), statistics([time])
    assert ours["half_width"] == pytest.approx(0.375), "1 to 2.5 times the measured time around 2 times"
    assert ours == pytest.approx(theirs)
    assert (ours["bias"], ours["coverage_90"]) == (pytest.approx(1.0), 1.0)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.5, 2.0, 2 * math.log(2.0)),
        (1.0, 1.0, 0.0),
        (1.1, 1.1, 20 * math.log(1.1)),
        (0.5, 0.8, math.log(1.6) + 20 * math.log(1.25)),
        (0.0, 1.0, math.log(1000.0)),
    ],
)
def test_the_interval_score_in_closed_form(low: float, high: float, expected: float) -> None:
    assert interval_score(low, high) == pytest.approx(expected, abs=1e-12)


def test_the_interval_score_is_proper() -> None:
    """Of truths spread evenly over the logarithm, no interval scores less than from their 5 % to their 95 % quantile."""
    truths = [(place + 0.5) / 400 for place in range(400)]

    def mean(low: float, high: float) -> float:
        return sum(interval_score(math.exp(low - truth), math.exp(high - truth)) for truth in truths) / len(truths)

    best = mean(0.05, 0.95)
    assert all(best < mean(low, high) for low, high in ((0.0, 1.0), (0.1, 0.9), (0.05, 0.9), (0.02, 0.95), (0.2, 0.8)))


def test_a_quantile_is_the_smallest_value_that_covers_the_share() -> None:
    assert [quantile([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0], share) for share in (0.05, 0.9, 0.91)] == [
        1,
        9,
        10,
    ]


def test_groups_are_those_of_the_rows_that_say_it() -> None:
    rows = [run("a"), run("b", gpu="h"), run("c", 5.0, gpu="h", kind="dense")]
    found = {(each["by"], each["value"]): each for each in by_group(rows)}
    assert found["gpu", "h"]["n"] == 2
    assert found["gpu", "h"]["bias"] == pytest.approx(0.4)
    assert found["gpu", "h"]["mape"] == pytest.approx(0.6)
    assert found["kind", "dense"]["mape"] == pytest.approx(1.0)
    assert {by for by, _ in found} == {"gpu", "kind", "software", "framework", "release", "inputs", "model"}
    for by in {by for by, _ in found}:
        assert sum(each["n"] for (name, _), each in found.items() if name == by) == 3


@pytest.mark.parametrize(
    ("count", "name"),
    [(0, "complete"), (1, "1 to 3 assumed"), (FEW, "1 to 3 assumed"), (FEW + 1, "4 to 6"), (MANY, "7 and more")],
)
def test_rows_are_told_apart_by_what_they_leave_open(count: int, name: str) -> None:
    assert BY["inputs"](replace(run(), assumed=("a=1",) * count)) == name
