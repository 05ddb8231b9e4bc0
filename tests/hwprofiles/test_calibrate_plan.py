"""In which order kernels are measured."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from hwprofiles.calibration.calibrate.plan import Refinement, coarse_order, disagreements, kind_of, seconds_of
from hwprofiles.calibration.rates.case import RateCase


def case(op: str, m: int, level: int = 0) -> RateCase:
    return RateCase({"part": "memory", "op": op, "m": m, "bytes": m}, lambda: lambda: None, float(m), level=level)


def test_every_beginning_has_some_of_every_kind() -> None:
    cases = [case("copy", 2**idx) for idx in range(12)] + [case("add", 2**idx) for idx in range(4)]
    order = coarse_order([*cases, case("copy", 99, level=1)])
    assert sorted(each.name for each in order) == sorted(each.name for each in cases)
    for length in (4, 8, 12):
        assert Counter(each.cells["op"] for each in order[:length]) == {"copy": 3 * length // 4, "add": length // 4}


def test_the_order_is_the_same_each_time() -> None:
    cases = [case("copy", 2**idx) for idx in range(12)]
    assert [each.name for each in coarse_order(cases)] == [each.name for each in coarse_order(tuple(cases))]


def test_points_on_a_line_agree_and_a_step_does_not() -> None:
    """Between equal values nothing is wrong; beside a step the two at its sides are."""
    places = [np.array([float(idx)]) for idx in range(6)]
    assert disagreements(places, [1.0] * 6).max() == pytest.approx(0.0)
    wrong = disagreements(places, [0.0, 0.0, 0.0, 1.0, 1.0, 1.0])
    assert min(wrong[2], wrong[3]) > max(wrong[0], wrong[5])


def test_the_finer_grid_goes_where_neighbours_disagree() -> None:
    """copy jumps between 64 and 256, add is as smooth as can be: the first candidate is beside the jump."""
    finer = Refinement([case("copy", 2**9 // 4, 1), case("copy", 2**13, 1), case("add", 2**9 // 4, 1)])
    for power in (2, 4, 6, 8, 10, 12, 14):
        finer.learn(case("add", 2**power).cells, 1e-9 * 2**power)
        finer.learn(case("copy", 2**power).cells, (1e-9 if power > 7 else 5e-9) * 2**power)
    chosen = finer.next()
    assert chosen is not None
    assert (chosen.cells["op"], chosen.cells["m"]) == ("copy", 128)


def test_what_never_runs_is_not_tried_for_ever() -> None:
    finer = Refinement([case("copy", 2**idx, 1) for idx in range(3, 9)])
    tried = 0
    while (chosen := finer.next()) is not None:
        tried += 1
        finer.learn(chosen.cells, math.nan)
    assert tried == 2


def test_a_kind_is_of_one_library() -> None:
    rows = [{"op": "copy", "library": name, "seconds": "1e-5"} for name in ("torch", "triton")]
    assert kind_of(rows[0]) != kind_of(rows[1])


def test_a_kernel_s_seconds_are_the_shorter_state_s() -> None:
    assert seconds_of([{"seconds": "2e-5"}, {"seconds": 1e-5}]) == 1e-5
    assert math.isnan(seconds_of([{"note": "no"}]))
