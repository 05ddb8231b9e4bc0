"""Printed numbers carry their unit, and no more digits than their uncertainty bears."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.report import numbers
from simulator.results.interval import Interval


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (numbers.seconds(1.234), "1.23 s"),
        (numbers.seconds(0.0456), "45.6 ms"),
        (numbers.seconds(8e-6), "8.00 µs"),
        (numbers.seconds(0.0), "0 s"),
        (numbers.seconds(90.0), "1.50 min"),
        (numbers.seconds(55.8 * 86400), "55.8 d"),
        (numbers.amount_of_bytes(66.1e9), "66.1 GB"),
        (numbers.amount_of_bytes(512), "512 B"),
        (numbers.bytes_rate(50e9), "50.0 GB/s"),
        (numbers.flop(250.45e9), "250 GFLOP"),
        (numbers.flop_rate(385e12), "385 TFLOP/s"),
        (numbers.amount(14.8e12), "14.8 T"),
        (numbers.amount(671026404352), "671 B"),
        (numbers.amount(62914560), "62.9 M"),
        (numbers.amount(180e3), "180 K"),
        (numbers.amount(64), "64"),
        (numbers.amount(0.9999999 * 100e9), "100 B"),
        (numbers.amount(999_996), "1.00 M"),
        (numbers.quantity(11.62), "11.6"),
        (numbers.quantity(0.0813), "0.0813"),
        (numbers.quantity(0.0813, 0.02), "0.081"),
        (numbers.quantity(2.57e6), "2.57 M"),
        (numbers.amount_range(0.0692, 0.1101), "0.069 to 0.110"),
        (numbers.percent(0.3894), "38.9 %"),
        (numbers.percent(9.994), "999.4 %"),
        (numbers.percent(16926.509), "1,690,000 %"),
        (numbers.signed_percent(-0.0305), "-3.0 %"),
        (numbers.signed_percent(12.34), "+1,230 %"),
        (numbers.signed_percent(-0.0001), "0.0 %"),
        (numbers.usd(2.0), "2.00 USD"),
        (numbers.usd(5.576e6), "5.58 M USD"),
        (numbers.amount_range(2.4e6, 2.9e6), "2.40 to 2.90 M"),
        (numbers.amount_range(0.9e6, 1.1e6), "0.90 to 1.10 M"),
        (numbers.whole(14991.4), "14,991"),
    ],
)
def test_units(text: str, expected: str) -> None:
    assert text == expected


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (17.0, 23.0, "20.4 s (17.0 to 23.0)"),
        (20.3, 20.6, "20.43 s (20.30 to 20.60)"),
        (1.0, 90.0, "20.4 s (1.0 to 90.0)"),
    ],
)
def test_a_step_time_has_a_decimal_and_its_interval_beside_it(low: float, high: float, expected: str) -> None:
    assert numbers.step_time(20.434, Interval(low=low, high=high)) == expected


def test_a_step_time_without_a_range_shows_three_digits_and_a_decimal() -> None:
    assert numbers.step_time(20.434, Interval.exact(20.434)) == "20.4 s (20.4 to 20.4)"
    assert numbers.step_time(634.2) == "634.2 s"
    assert numbers.step_time(0.01234) == "0.0123 s"


@given(value=st.floats(1e-6, 1e6), uncertainty=st.floats(1e-6, 1e6))
def test_the_last_digit_is_at_most_a_tenth_of_the_uncertainty(value: float, uncertainty: float) -> None:
    last_digit = 10.0 ** -numbers.decimals_for(value, uncertainty)
    assert last_digit <= max(uncertainty / 10 * (1 + 1e-9), 0) or last_digit == 1.0


@given(value=st.floats(1e-9, 1e30))
def test_every_magnitude_prints_with_few_characters(value: float) -> None:
    for text in (numbers.seconds(min(value, 1e9)), numbers.flop(min(value, 1e27)), numbers.amount(min(value, 1e15))):
        assert len(text) <= 16
        assert "e" not in text.replace("TeV", "")


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("nic.latency_s", 8e-6, "8.00 µs"),
        ("zero.rate_bytes_per_s", 38e9, "38.0 GB/s"),
        ("reserve_bytes", 2e9, "2.00 GB"),
        ("overlap.gemm.ratio", 0.9, "0.9"),
        ("comm_sms", 20, "20"),
        ("layout", "d*3 | m", "d*3 | m"),
        ("switch", True, "yes"),
    ],
)
def test_a_key_that_ends_in_its_unit_says_how_to_print(key: str, value: object, expected: str) -> None:
    assert numbers.by_key(key, value) == expected


def test_columns_of_a_step_share_unit_and_decimals() -> None:
    assert numbers.column_of_seconds([1.13, 14.4], 20.4) == ("s", ["1.13", "14.40"])
    assert numbers.column_of_seconds([0.0113, 0.1], 0.5) == ("ms", ["11.3", "100.0"])


@given(fraction=st.floats(-1, 2), width=st.integers(1, 80))
def test_a_bar_is_as_long_as_its_fraction(fraction: float, width: int) -> None:
    length = len(numbers.bar(fraction, width))
    assert length <= width
    assert abs(length - min(max(fraction, 0), 1) * width) <= 1
    assert not math.isnan(length)


@pytest.mark.parametrize(
    ("fraction", "width", "expected"),
    [
        (1.0, 3, "███"),
        (0.5, 8, "████"),
        (0.0, 8, ""),
        (0.25, 2, "▌"),
        (1 / 16, 2, "▏"),
        (0.9, 5, "████▌"),
        (7.0, 2, "██"),
    ],
)
def test_a_bar_is_drawn_to_an_eighth(fraction: float, width: int, expected: str) -> None:
    assert numbers.bar(fraction, width) == expected


@pytest.mark.parametrize(
    ("count", "uncertainty", "text"),
    [
        (1325.4, None, "1,325"),
        (1325.4, 3.0, "1,325"),
        (1325.4, 320.0, "1,330"),
        (1325.4, 2100.0, "1,300"),
        (7.6, 0.2, "8"),
    ],
)
def test_a_count_keeps_the_digits_that_its_uncertainty_bears(
    count: float, uncertainty: float | None, text: str
) -> None:
    assert numbers.whole(count, uncertainty) == text


def test_a_duration_and_its_interval_share_a_unit_and_digits() -> None:
    day = 86_400.0
    assert numbers.duration_estimate(52.31 * day, Interval(low=49.6 * day, high=58.2 * day)) == (
        "52.3 d",
        "49.6 to 58.2 d",
    )
    assert numbers.duration_estimate(39.01 * day, Interval(low=20 * day, high=58 * day)) == ("39 d", "20 to 58 d")
    assert numbers.duration_estimate(0.5, Interval.exact(0.5)) == ("500 ms", "500 to 500 ms")
