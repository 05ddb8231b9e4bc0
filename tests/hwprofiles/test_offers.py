"""Offers of a price sheet: what matches, the median and the ends, the nearest others; and that each is sourced and dated."""

from __future__ import annotations

import copy
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from hwprofiles.catalog import list_names, load_prices
from hwprofiles.offers import MAX_NEAREST, Choice, Wanted, choose, nearest_offers
from hwprofiles.price_records import Offer, PriceSheet

SOURCE = {"kind": "second_hand", "where": "a page", "date": "2026-05"}
OFFERS = [
    (sheet.name, gpu, offer)
    for sheet in map(load_prices, list_names("prices"))
    for gpu, entry in sheet.entries.items()
    for offer in entry.offers
]
SHEET: dict[str, Any] = {
    "name": "s", "currency": "USD", "date": "2026-05", "good_for_months": 12, "description": "made up",
    "sources": {"page": SOURCE},
    "entries": {
        "h100": {
            "usd_per_gpu_hour": 2.0, "low": 1.0, "high": 3.0, "source": SOURCE,
            "offers": [{"provider": "a", "commitment": "spot", "usd_per_gpu_hour": 1.5, "source": "page"}],
        }
    },
}  # fmt: skip


def offer(provider: str, usd: float, commitment: str = "on-demand", region: str | None = None, **ends: float) -> Offer:
    values = {"provider": provider, "commitment": commitment, "region": region, "usd_per_gpu_hour": usd, **ends}
    return Offer.model_validate(values | {"source": SOURCE})


ABC = (
    offer("a", 3.0), offer("a", 2.0, "1-year"), offer("b", 5.0, region="west"), offer("b", 4.0, region="east"),
    offer("c", 1.0, "spot", low=0.5, high=2.5),
)  # fmt: skip


def chosen(**wanted: str) -> list[float]:
    choice = choose(ABC, Wanted(**wanted))
    return [] if choice is None else [each.usd_per_gpu_hour for each in choice.offers]


def test_every_wish_must_be_met() -> None:
    assert chosen(provider="a") == [3.0, 2.0]
    assert chosen(provider="b", region="east") == [4.0]
    assert chosen(commitment="on-demand") == [3.0, 5.0, 4.0]
    assert chosen(region="north") == chosen(provider="a", region="west") == []


def test_an_offer_without_a_region_is_in_no_region() -> None:
    assert chosen(region="west") == [5.0]


def test_value_is_the_median_and_the_range_its_ends() -> None:
    choice = Choice(ABC)
    assert (choice.usd_per_gpu_hour, choice.low, choice.high) == (Decimal("3.0"), Decimal("0.5"), Decimal("5.0"))
    assert Choice(ABC[:2]).usd_per_gpu_hour == Decimal("2.5")


@given(prices=st.lists(st.floats(0.01, 100), min_size=1, max_size=9))
def test_the_value_is_inside_the_range_whatever_the_order(prices: list[float]) -> None:
    offers = tuple(offer("a", price) for price in prices)
    choice = Choice(offers)
    assert choice.low <= choice.usd_per_gpu_hour <= choice.high
    assert choice.usd_per_gpu_hour == Choice(offers[::-1]).usd_per_gpu_hour


def test_what_all_offers_share_is_said() -> None:
    choice = choose(ABC, Wanted(provider="b"))
    assert choice is not None
    assert (choice.common("provider"), choice.common("region"), choice.common("commitment")) == ("b", None, "on-demand")


def test_the_nearest_meet_most_wishes_in_the_order_of_the_sheet() -> None:
    found = nearest_offers(ABC, Wanted("b", "west", "spot"))
    assert [each.usd_per_gpu_hour for each in found] == [5.0, 4.0, 1.0, 3.0]
    assert len(found) == MAX_NEAREST


@pytest.mark.parametrize(("sheet", "gpu", "each"), OFFERS, ids=[f"{s}-{g}-{o}" for s, g, o in OFFERS])
def test_each_offer_of_the_catalogue_is_dated_before_its_sheet_ends(sheet: str, gpu: str, each: Offer) -> None:
    dated = load_prices(sheet).date
    assert each.source.date[:4] == dated[:4]
    assert each.source.date[: len(dated)] <= dated
    assert each.source.where


@pytest.mark.parametrize("name", list_names("prices"))
def test_offers_of_a_sheet_differ_and_lie_in_the_range_of_its_entry(name: str) -> None:
    for gpu, entry in load_prices(name).entries.items():
        keys = [(each.provider, each.region, each.commitment) for each in entry.offers]
        assert len(keys) == len(set(keys)), gpu
        assert all(entry.low <= each.low and each.high <= entry.high for each in entry.offers), gpu


def test_a_sheet_puts_its_sources_in_place_of_their_names() -> None:
    (each,) = PriceSheet.model_validate(SHEET).entries["h100"].offers
    assert each.source.where == "a page"
    assert (each.low, each.high) == (1.5, 1.5)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"source": "other"}, "not among the sheet's sources"),
        ({"source": {"kind": "paper", "where": "x"}}, "has no date"),
        ({"usd_per_gpu_hour": -1.0}, "greater than or equal to 0"),
        ({"usd_per_gpu_hour": float("nan")}, "finite"),
        ({"low": 2.0}, "low <= usd_per_gpu_hour"),
        ({"commitment": "forever"}, "on-demand"),
        ({"currency": "EUR"}, "Extra inputs"),
        ({"provider": "A Cloud"}, "pattern"),
    ],
)
def test_a_wrong_offer_is_refused(change: dict[str, Any], reason: str) -> None:
    sheet = copy.deepcopy(SHEET)
    sheet["entries"]["h100"]["offers"][0] |= change
    with pytest.raises(ValidationError, match=reason):
        PriceSheet.model_validate(sheet)


def test_a_sheet_of_another_currency_is_refused() -> None:
    with pytest.raises(ValidationError, match="USD"):
        PriceSheet.model_validate(SHEET | {"currency": "EUR"})
