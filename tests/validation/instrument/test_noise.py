"""How well measured runs repeat themselves, against values by hand."""

from __future__ import annotations

import pytest

from tests.validation.instrument.made_up import run
from validation.instrument.noise import noise_floor

SAME = {"gpu": "g", "mbs": "1"}


def test_rows_that_are_equal_spread_around_their_median() -> None:
    """Steps of 1, 2 and 4 s around 2: 50, 0 and 100 %; the predictions do not matter."""
    rows = [run(f"a{n}", 3.0, measured=2.0**n, recorded=SAME, release=f"f@{n}") for n in range(3)]
    alone = run("b", measured=9.0, recorded=SAME | {"mbs": "2"})
    (found,) = noise_floor([*rows, alone])
    assert (found["kind"], found["groups"], found["rows"]) == ("MoE", 1, 3)
    assert found["mape"] == pytest.approx(0.5)
    assert found["same_release"] == {"groups": 0, "rows": 0, "mape": None}


def test_kinds_and_figures_of_other_columns_are_told_apart() -> None:
    """A speed of 50 for 100 predicted in 4 s is a step of 8 s, beside one of 2 s: both 60 % from the median of 5."""
    dense = [
        run("a", 100.0, measured=50.0, quantity="tokens_per_s_per_gpu", recorded=SAME, kind="dense"),
        run("b", 2.0, measured=2.0, recorded=SAME, kind="dense"),
    ]
    (found,) = noise_floor(dense)
    assert found["kind"] == "dense"
    steps = [row.measured_step_s for row in dense]
    assert steps == [pytest.approx(200.0), pytest.approx(2.0)], "the step that is made up is as long as the speed"
    assert found["mape"] == pytest.approx(99.0 / 101.0)
    assert found["same_release"]["rows"] == 2


def test_no_rows_have_no_floor() -> None:
    assert noise_floor([]) == []
