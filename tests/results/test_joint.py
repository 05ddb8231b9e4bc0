"""The joint interval: closed forms of normal sources, and laws of whatever is drawn."""

from __future__ import annotations

from math import hypot, isclose

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from simulator.results.joint import NUM_DRAWS, Joint, Source, added, points, positions, sum_ends, together

CLOSE = 2e-3
"""Of a half-width: what the grid and the draws leave of the closed forms, relative."""


def source(key: str, at_low: float, at_high: float, furthest: tuple[float, float] = (np.inf, np.inf)) -> Source:
    return Source(key, at_low, at_high, 0.0, 1.0, 2.0, furthest)


def joint(*sources: Source, seed: int = 0) -> Joint:
    """A quantity that all sources change as they do alone."""
    return Joint(sources, added(sources, seed), seed)


def test_one_source_gives_its_own_range_back() -> None:
    found = joint(source("a", -0.1, 0.25))
    assert found.ends == pytest.approx((0.9, 1.25), rel=CLOSE * 0.1)
    assert points(found.relative) == pytest.approx((0.9, 1.25), abs=CLOSE)
    assert found.first_order == {"a": pytest.approx(1.0)}
    assert found.interval(20.0).low == pytest.approx(18.0, rel=CLOSE * 0.1)


def test_independent_sources_add_in_quadrature() -> None:
    low, high = joint(source("a", -0.03, 0.03), source("b", 0.04, -0.04)).ends
    assert (1.0 - low, high - 1.0) == pytest.approx((0.05, 0.05), rel=CLOSE)
    shares = joint(source("a", -0.03, 0.03), source("b", 0.04, -0.04)).first_order
    effect = source("b", 0.04, -0.04).effect
    assert (effect.low, effect.high) == (-0.04, 0.04), "one that shortens at its high end"
    assert (shares["a"], shares["b"]) == pytest.approx((9 / 25, 16 / 25))


def test_one_source_of_two_phases_adds_up_and_two_sources_do_not() -> None:
    """Phases of 3 and 1 hours: the ends of one source are the hours' mean, those of two sources in quadrature."""
    one = together([(3.0, joint(source("a", -0.1, 0.1))), (1.0, joint(source("a", -0.3, 0.3)))])
    two = together([(3.0, joint(source("a", -0.1, 0.1))), (1.0, joint(source("b", -0.3, 0.3)))])
    assert one.ends == pytest.approx((0.85, 1.15), abs=CLOSE * 0.15)
    half = hypot(0.075, 0.075)
    assert two.ends == pytest.approx((1.0 - half, 1.0 + half), abs=CLOSE * half)
    assert one.interval(4.0).width == pytest.approx(1.2, rel=CLOSE)


def test_what_acts_against_itself_in_two_phases_cancels() -> None:
    found = together([(1.0, joint(source("a", -0.2, 0.2))), (1.0, joint(source("a", 0.2, -0.2)))])
    assert found.ends == (1.0, 1.0)
    assert points(found.relative) == pytest.approx((1.0, 1.0))


def test_a_source_of_one_side_has_one_end() -> None:
    found = joint(source("a", 0.0, 0.2))
    assert found.ends == (1.0, pytest.approx(1.2, rel=CLOSE))


def test_nothing_lies_beyond_what_is_possible() -> None:
    held = joint(source("switch", 0.1, 0.0, (1.0, np.inf)))
    assert held.relative.max() == 1.1
    assert joint(source("free", 0.1, 0.0)).relative.max() > 1.15


def test_ends_follow_what_the_sources_do_together() -> None:
    """A quantity that ten times the excess over the sum of its sources' own changes has ends further out by that."""
    sources = (source("a", -0.1, 0.1), source("b", -0.1, 0.1))
    alone = added(sources, 0)
    found = Joint(sources, 1.0 + 2.0 * (alone - 1.0), 0)
    half = hypot(0.1, 0.1)
    assert found.ends == pytest.approx((1.0 - 2.0 * half, 1.0 + 2.0 * half), rel=0.03)
    assert sum(found.first_order.values()) == pytest.approx(0.25, rel=0.1), "most of the variance is of both together"


def test_draws_are_those_of_seed_and_key_alone() -> None:
    mine, again = positions(7, "gemm"), positions(7, "gemm")
    assert (mine == again).all()
    assert (positions(8, "gemm") != mine).any()
    assert (positions(7, "attention") != mine).any()
    assert (np.sort(positions(8, "attention")) == np.sort(mine)).all(), "each takes every stratum once"
    assert len(mine) == NUM_DRAWS >= 500
    assert [float(each) for each in mine[:3]] == pytest.approx(FIRST)


FIRST = [0.6577486194046243, 0.07609668335073524, 1.0011531121592923]
"""Of seed 7 and "gemm": a change of these changes every interval that was ever told."""

ENDS = st.floats(0.0, 0.3)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(ENDS, ENDS), min_size=1, max_size=8))
def test_a_sum_lies_between_its_greatest_source_and_all_together(ends: list[tuple[float, float]]) -> None:
    low, high = sum_ends(source(str(idx), -down, up) for idx, (down, up) in enumerate(ends))
    slack = CLOSE * sum(down + up for down, up in ends) + 1e-12
    assert low >= -sum(down for down, _ in ends) - slack
    assert high <= sum(up for _, up in ends) + slack
    assert high - low >= max(down + up for down, up in ends) * (1.0 - 0.12) - slack


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(ENDS, ENDS), min_size=1, max_size=6), st.integers(0, 5), st.floats(1.0, 4.0))
def test_a_wider_source_widens_the_whole(ends: list[tuple[float, float]], which: int, by: float) -> None:
    which %= len(ends)
    wider = [(down * by, up * by) if idx == which else (down, up) for idx, (down, up) in enumerate(ends)]
    before, after = (
        joint(*(source(str(idx), -down, up) for idx, (down, up) in enumerate(each))).ends for each in (ends, wider)
    )
    assert after[1] - after[0] >= (before[1] - before[0]) * (1.0 - 1e-4)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(ENDS, ENDS), min_size=1, max_size=6), st.integers(0, 2**63))
def test_the_prediction_lies_inside(ends: list[tuple[float, float]], seed: int) -> None:
    assume(any(down > 1e-6 for down, _ in ends) and any(up > 1e-6 for _, up in ends))
    found = joint(*(source(str(idx), -down, up) for idx, (down, up) in enumerate(ends)), seed=seed)
    interval = found.interval(3.0)
    assert interval.low <= 3.0 <= interval.high
    shares = found.first_order
    assert all(share >= 0.0 for share in shares.values())
    assert isclose(sum(shares.values()), 1.0, rel_tol=1e-9)
