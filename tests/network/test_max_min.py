"""Max-min fair rates: no link over capacity, every flow has a bottleneck, nothing is lost."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.network.max_min import finish_seconds, max_min_rates

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


@given(cases(), st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_all_bytes_arrive_and_no_link_carries_more_than_it_can(case: tuple[np.ndarray, np.ndarray], seed: int) -> None:
    """Flows end no earlier than alone, and a link's bytes need at least bytes / capacity."""
    capacity, uses = case
    sizes = np.random.default_rng(seed).uniform(0.0, 1e3, len(uses))
    finish = finish_seconds(sizes, capacity, uses)
    alone = sizes / np.where(uses, capacity, np.inf).min(axis=1)
    assert (finish >= alone * (1 - TIGHT)).all()
    for link in range(len(capacity)):
        on_it = uses[:, link]
        if on_it.any():
            assert finish[on_it].max() >= sizes[on_it].sum() / capacity[link] * (1 - TIGHT)


def test_closed_forms() -> None:
    assert max_min_rates([9.0], [[True]] * 3).tolist() == [3.0] * 3
    assert max_min_rates([10.0], [[True], [True]], [2.0, np.inf]).tolist() == [2.0, 8.0]
    parking_lot = [[True, True], [True, False], [False, True]]
    assert max_min_rates([10.0, 4.0], parking_lot).tolist() == [2.0, 8.0, 2.0]
    assert max_min_rates([5.0], np.zeros((0, 1), dtype=bool)).tolist() == []


def test_a_pipeline_send_beside_a_dispatch_on_one_nic() -> None:
    """Half the NIC each until the send is done: 58.7 MB beside 96 MB on 43 GB/s, and the NIC never idles."""
    finish = finish_seconds([58.7e6, 96.1e6], [43e9], [[True], [True]])
    assert finish[0] == pytest.approx(2 * 58.7e6 / 43e9)
    assert finish[1] == pytest.approx((58.7e6 + 96.1e6) / 43e9)
    assert finish_seconds([0.0, 8.0], [4.0], [[True], [True]]).tolist() == [0.0, 2.0]


@pytest.mark.parametrize(
    ("capacity", "uses", "demand"),
    [
        ([1.0, 2.0], [[True]], None),
        ([0.0], [[True]], None),
        ([1.0], [[True]], [0.0]),
        ([1.0], [[False]], None),
        ([np.inf], [[True]], None),
    ],
)
def test_wrong_input_is_refused(capacity: list[float], uses: list[list[bool]], demand: list[float] | None) -> None:
    with pytest.raises(ValueError, match=r"shapes|positive|no link"):
        max_min_rates(capacity, uses, demand)
