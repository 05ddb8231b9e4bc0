"""Prices and stacks that are too old when the run starts are warned of; the clock of the machine says nothing."""

from __future__ import annotations

import pytest

from hwprofiles.stack_choice import stack_provenance
from simulator import load_scenario, simulate_run
from simulator.scenario import ages

OLD = "prices.sheet=market-2025-03"


def warnings(*overrides: str) -> str:
    return "\n".join(load_scenario("deepseek-v3", overrides).warnings)


def test_an_old_sheet_says_its_age_at_the_start_and_the_newer_one() -> None:
    text = warnings(OLD, "start_date=2027-01-15")
    for words in (
        "overrides[0]: prices.sheet: market-2025-03 is of 2025-03, 22 months old at 2027-01-15; ",
        "; good for 12 months (the start_date)",
        "; newer: --set prices.sheet=market-2026-05",
    ):
        assert words in text


def test_without_a_start_the_newest_date_of_the_catalogue_counts() -> None:
    text = warnings(OLD)
    assert "good for 12 months (no start_date is given: the newest date in the catalogue)" in text
    assert str(ages.age.newest_date()) in text


@pytest.mark.parametrize(
    "overrides", [(OLD, "start_date=2025-06-01"), ("prices.sheet=market-2026-05",), ("start_date=2035-01-01",)]
)
def test_young_enough_sheets_and_own_prices_are_not_warned_of(overrides: tuple[str, ...]) -> None:
    assert warnings(*overrides) == ""


def test_the_age_reaches_the_result() -> None:
    given = ("prices.sheet=market-2025-03", "start_date=2027-01-15", "draws=1")
    (text,) = simulate_run(load_scenario("mixtral-8x22b", given)).warnings
    assert "market-2025-03 is of 2025-03, 22 months old at 2027-01-15" in text


def test_the_newest_sheet_has_no_newer_one() -> None:
    text = warnings("prices.sheet=market-2026-05", "start_date=2035-01-01")
    assert "good for 12 months" in text
    assert "newer" not in text


def test_a_stack_that_says_how_long_it_holds_is_held_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def aged(name: str) -> object:
        return stack_provenance(name).model_copy(update={"good_for_months": 6})

    monkeypatch.setattr(ages, "stack_provenance", aged)
    assert "stack: h800-deepseek-2024 is of 2025-" in warnings("start_date=2026-12-01")
    assert warnings("start_date=2024-12-01") == ""
