"""Max-min fair rates: no link over capacity, every flow has a bottleneck, nothing is lost."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine.rates import max_min_rates

TIGHT = 1e-9


@st.composite
def cases(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    links, flows = draw(st.integers(1, 6)), draw(st.integers(1, 8))
    capacity = np.array(draw(st.lists(st.floats(1.0, 1e3), min_size=links, max_size=links)))
    uses = np.array(
        draw(st.lists(st.lists(st.booleans(), min_size=links, max_size=links), min_size=flows, max_size=flows))
    )
    uses[np.arange(flows), draw(st.lists(st.integers(0, links - 1), min_size=flows, max_size=flows))] = True
    return capacity, uses


@given(cases())
@settings(deadline=None)
def test_every_flow_has_a_bottleneck_and_no_link_is_over_capacity(case: tuple[np.ndarray, np.ndarray]) -> None:
    capacity, uses = case
    rates = max_min_rates(capacity, uses)
    load = rates @ uses
    assert (rates > 0.0).all()
    assert (load <= capacity * (1 + TIGHT)).all()
    full = load >= capacity * (1 - TIGHT)
    fastest = np.where(uses, rates[:, None], 0.0).max(axis=0)
    for rate, mine in zip(rates, uses, strict=True):
        assert (full & mine & (fastest <= rate * (1 + TIGHT))).any()


def test_closed_forms() -> None:
    assert max_min_rates([9.0], [[True]] * 3).tolist() == [3.0] * 3
    assert max_min_rates([10.0], [[True], [True]], [2.0, np.inf]).tolist() == [2.0, 8.0]
    parking_lot = [[True, True], [True, False], [False, True]]
    assert max_min_rates([10.0, 4.0], parking_lot).tolist() == [2.0, 8.0, 2.0]
    assert max_min_rates([5.0], np.zeros((0, 1), dtype=bool)).tolist() == []


def test_a_flow_of_which_a_part_crosses_a_link_fills_it_later() -> None:
    """Half of one flow's bytes cross the second link: it is full at 4, where the other has 2 of it."""
    assert max_min_rates([10.0, 4.0], [[1.0, 0.5], [0.0, 1.0]]).tolist() == pytest.approx([8.0 / 3.0, 8.0 / 3.0])
    assert max_min_rates([10.0, 4.0], [[1.0, 0.5], [0.0, 1.0]], [np.inf, 1.0]).tolist() == pytest.approx([6.0, 1.0])
