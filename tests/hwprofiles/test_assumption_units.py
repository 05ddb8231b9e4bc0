"""Every unit of assumptions has bounds; a statement beyond them, or of another unit, is no assumption."""

from __future__ import annotations

import math
from typing import Any

import pytest
from pydantic import ValidationError

from hwprofiles.assumption_units import ASSUMPTION_UNITS, bounds_problem
from hwprofiles.stack_records import Assumption, Parameter

WHY = {"source": "me", "reason": "so"}


@pytest.mark.parametrize("unit", ASSUMPTION_UNITS)
def test_the_ends_are_allowed_and_nothing_beyond(unit: str) -> None:
    bounds = ASSUMPTION_UNITS[unit]
    assert math.isfinite(bounds.low) and math.isfinite(bounds.high) and bounds.low < bounds.high
    for number in (bounds.low, bounds.high):
        assert Assumption(key="k", value=number, low=number, high=number, unit=unit, **WHY).value == number
        assert bounds_problem(number, unit) is None
    for number in (bounds.low - 1e-6 * max(bounds.low, 1.0), 1.000001 * bounds.high):
        assert bounds_problem(number, unit) is not None


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"value": 1.2, "high": 1.3}, "value: 1.2 is out of range; allowed 0 to 1 (fraction)"),
        ({"low": -0.1}, "low: -0.1 is out of range; allowed 0 to 1 (fraction)"),
        ({"high": 1.1}, "high: 1.1 is out of range; allowed 0 to 1 (fraction)"),
        ({"unit": "switch"}, "value: 0.5 is out of range; allowed 0 or 1 (switch)"),
        ({"unit": "fractions"}, "unit: no unit of assumptions (fractions); allowed FLOP/s, SMs, "),
        ({"unit": "fractions"}, "did you mean fraction?"),
        ({"low": 0.6}, "needs low <= value <= high"),
    ],
)
def test_a_statement_beyond_its_unit_is_refused(changed: dict[str, Any], says: str) -> None:
    stated = {"key": "k", "value": 0.5, "low": 0.0, "high": 1.0, "unit": "fraction", **WHY}
    assert Assumption.model_validate(stated)
    with pytest.raises(ValidationError) as caught:
        Assumption.model_validate({**stated, **changed})
    assert says in str(caught.value)


def test_a_switch_of_a_stack_is_on_or_off() -> None:
    with pytest.raises(ValidationError, match=r"value: 0\.7 is out of range; allowed 0 or 1 \(switch\)"):
        Parameter.model_validate({"value": 0.7, "unit": "switch", "source": "me"})


@pytest.mark.parametrize(
    ("unit", "number"),
    [
        # More or less than all of something.
        ("fraction", -0.01), ("fraction", 1.01), ("switch", 0.5), ("coefficient of variation", -0.1),
        # Chips of one kind that differ by more are two kinds; scenarios state no more either.
        ("coefficient of variation of speed", 0.21),
        # Rates of zero would take for ever, and so would releases that take no time; negative times and sizes are none.
        ("bytes/s", 0.0), ("FLOP/s", 0.0), ("ratio of times", 0.0), ("fraction of a rate", 0.0), ("s", -1e-9), ("bytes", -1.0),
        ("SMs", -1.0), ("tokens", 0.0),
        # Kernels and collectives of a second, and ten thousand SMs a GPU, are slips of a unit.
        ("s", 2.0), ("SMs", 1e4), ("bytes", 1e15), ("tokens", 1e7),
        # The fullest of several holds at least the mean; a total concentration below 1 is one expert a sequence.
        ("ratio over even load", 0.99), ("concentration", 0.5), ("score a step", 0.2), ("relative change a step", 0.2),
        ("log affinity", -1.0), ("chunks", 0.5), ("chunks", 1000.0),
    ],
)  # fmt: skip
def test_what_cannot_be_is_no_assumption(unit: str, number: float) -> None:
    assert bounds_problem(number, unit) is not None
