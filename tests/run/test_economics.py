"""Cost is GPU-hours times price, exact to the micro-USD, and linear in both."""

from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwprofiles.catalog import load_prices
from simulator.errors import InputError
from simulator.results.document import to_document
from simulator.results.interval import Estimate
from simulator.run.economics import MICRO_USD, Price, cost, gpu_hours, price_of
from simulator.scenario.plan import Prices

MONEY = st.decimals(0, 100, places=4)
HOURS = st.floats(0, 1e9)


def scenario(prices: Prices | None, node: str = "h800-x8") -> Any:
    return SimpleNamespace(prices=prices, cluster=SimpleNamespace(node=node), where=lambda field: "run.yaml:7")


def test_the_published_price_of_the_published_hours() -> None:
    """arXiv:2412.19437, table 1: 2.788 M H800 hours at 2 USD are 5.576 M USD."""
    assert cost(Estimate.exact(2_788_000.0), Price.of(2.0, "paper")).value == 5_576_000


def test_a_gpu_hour_counts_every_gpu_for_every_hour() -> None:
    assert gpu_hours(2048, 3600.0) == 2048
    assert gpu_hours(1, 1800.0) == 0.5


def test_decimal_fractions_stay_exact() -> None:
    """As floats, 0.1 USD for 3 hours are 0.30000000000000004."""
    assert cost(Estimate.exact(3.0), Price.of(0.1, "x")).value == Decimal("0.3")


def test_money_is_the_nearest_micro_usd() -> None:
    """0.8 of a thousandth of an hour at 2.1 thousandths of a USD are 1.68 micro-USD, which are two and not one."""
    assert cost(Estimate.exact(8e-4), Price.of(2.1e-3, "x")).value == 2 * MICRO_USD


def test_a_price_is_the_number_that_was_written() -> None:
    """2.1, not the 2.100000000000000088 that the nearest float is."""
    price = Price.of(2.1, "x", low=1.1, high=3.3)
    assert (price.value, price.low, price.high) == (Decimal("2.1"), Decimal("1.1"), Decimal("3.3"))


@given(hours=HOURS, price=MONEY, factor=st.integers(1, 1000))
def test_a_price_times_k_costs_k_times_as_much(hours: float, price: Decimal, factor: int) -> None:
    one = cost(Estimate.exact(hours), Price(price, price, price, "x"))
    many = cost(Estimate.exact(hours), Price(price * factor, price * factor, price * factor, "x"))
    assert abs(many.value - one.value * factor) <= MICRO_USD * factor


@given(low=HOURS, extra=st.floats(0, 1e6), price=MONEY, spread=MONEY)
def test_the_ends_of_both_ranges_multiply(low: float, extra: float, price: Decimal, spread: Decimal) -> None:
    hours = Estimate(value=low, low=low, high=low + extra)
    total = cost(hours, Price(price, price, price + spread, "x"))
    assert total.low <= total.value <= total.high
    assert total.high == cost(Estimate.exact(low + extra), Price(*[price + spread] * 3, "x")).value
    assert total.to_estimate().low <= total.to_estimate().high


def test_a_price_is_inside_its_range() -> None:
    with pytest.raises(ValueError, match="not between"):
        Price.of(2.0, "x", low=2.5)
    with pytest.raises(ValueError, match="not between"):
        Price.of(-1.0, "x")


def test_no_price_no_cost() -> None:
    assert price_of(scenario(None)) is None
    assert price_of(scenario(Prices())) is None


def test_a_scenario_names_its_price_or_a_dated_sheet() -> None:
    assert price_of(scenario(Prices(usd_per_gpu_hour=1.9))) == Price.of(1.9, "scenario")
    entry = load_prices("market-2025-03").entries["h800"]
    price = price_of(scenario(Prices(sheet="market-2025-03")))
    assert price is not None
    assert (float(price.low), float(price.value), float(price.high)) == (entry.low, entry.usd_per_gpu_hour, entry.high)
    name, rest = price.source.split(", ", 1)
    assert name == "market-2025-03"
    assert rest.startswith("2025-03: arXiv:2412.19437")


def test_a_price_as_given_has_no_range_and_no_sheet() -> None:
    price = price_of(scenario(Prices(usd_per_gpu_hour=2.0)))
    assert price is not None
    assert to_document(price.to_result()) == {"usd_per_gpu_hour": 2.0, "low": 2.0, "high": 2.0, "source": "scenario"}


def test_a_sheets_own_price_says_the_sheet_and_no_offer() -> None:
    price = price_of(scenario(Prices(sheet="market-2025-03")))
    assert price is not None
    result = price.to_result()
    assert (result.sheet, result.date, result.provider, result.offers) == ("market-2025-03", "2025-03", None, None)


def test_an_offer_is_the_price_with_its_provider_region_commitment_date_and_source() -> None:
    wanted = Prices(sheet="market-2025-03", provider="google-cloud", commitment="3-year")
    price = price_of(scenario(wanted, node="h100-x8"))
    assert price is not None
    result = price.to_result()
    assert (result.usd_per_gpu_hour, result.low, result.high) == (4.86, 4.86, 4.86)
    assert (result.provider, result.region, result.commitment) == ("google-cloud", "us-central1", "3-year")
    assert result.date == "2025-03-17"
    assert "cloud.google.com/compute/all-pricing" in result.source


def test_several_offers_give_their_median_and_ends() -> None:
    """H100 on demand: 2.45 2.94 2.99 3.29 3.95 10.00 11.06 12.29."""
    price = price_of(scenario(Prices(sheet="market-2025-03", commitment="on-demand"), node="h100-x8"))
    assert price is not None
    assert (price.value, price.low, price.high) == (Decimal("3.62"), Decimal("2.45"), Decimal("12.29"))
    result = price.to_result()
    assert (result.provider, result.region, result.commitment) == (None, None, "on-demand")
    assert result.date == "2025-02-28 to 2025-03-17"
    assert result.offers is not None
    assert len(result.offers) == 8
    assert "median of 8 offers: aws us-east, on-demand: 12.29 USD; " in result.source


def test_a_range_of_a_source_is_the_range_of_the_price() -> None:
    wanted = Prices(sheet="market-2026-05", provider="hyperscalers")
    price = price_of(scenario(wanted, node="h100-x8"))
    assert price is not None
    assert (price.value, price.low, price.high) == (Decimal("4.25"), Decimal("3.5"), Decimal("5"))


def test_offers_that_do_not_exist_are_refused() -> None:
    with pytest.raises(InputError, match=r"no offer of h800 with aws, spot"):
        price_of(scenario(Prices(sheet="market-2025-03", provider="aws", commitment="spot")))


def test_a_gpu_without_a_price_is_refused_with_what_to_do() -> None:
    with pytest.raises(InputError, match=r"run.yaml:7: prices.sheet: .*gb300.*a100.*usd_per_gpu_hour"):
        price_of(scenario(Prices(sheet="market-2025-03"), node="gb300-nvl72"))
