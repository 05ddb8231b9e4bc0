"""The page Plan: asks when told to, shows the table and what is taken, and loads a size's plan for every page."""

from __future__ import annotations

from typing import Any

import pytest

from dashboards.source import Source
from dashboards.views.plan import plan_changes
from simulator.results.plan_table import PlanRow
from tests.dashboards.inline import Inline
from tests.dashboards.pages import link_of, opened, texts
from tests.run import planned as double

LINK = {"preset": "mixtral-8x22b", "gpus": "256", "pp": "4", "draws": "1"}


@pytest.fixture(autouse=True)
def _stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simulator.run.planner.plan_layout", double.plan_layout)
    monkeypatch.setattr("simulator.run.planner.fits_any", double.fits_any)
    monkeypatch.setattr("simulator.run.planner.own_layout.states_layout", lambda scenario: False)


def press(page: Any, label: str) -> Any:
    (button,) = [each for each in page.button if each.label == label]
    return button.click().run()


def test_nothing_is_planned_before_the_button(inline_jobs: Inline) -> None:
    page = opened("plan", **LINK)
    assert not page.exception and not page.error
    assert "Planning tries thousands of layouts" in texts(page)
    assert not page.dataframe
    assert link_of(page) == LINK


def test_the_form_s_answers_stand_in_the_link_and_in_the_table(inline_jobs: Inline) -> None:
    page = opened("plan", **LINK)
    page.text_input[0].set_value("8, 64,512")
    page.number_input[0].set_value(200.0)
    press(page, "Plan")
    assert not page.exception and not page.error, texts(page)
    assert link_of(page) == {**LINK, "show": "plan", "sizes": "8,64,512", "max_days": "200.0"}
    (table,) = (each.value for each in page.dataframe)
    assert list(table["GPUs"]) == ["8", "64", "512"]
    assert list(table[" "]) == ["", "front", "taken"]
    assert "32 GPUs are the smallest cluster that fits" in texts(page)
    assert page.get("plotly_chart")


def test_a_click_loads_the_plan_of_a_size(inline_jobs: Inline) -> None:
    page = opened("plan", **LINK, show="plan", sizes="64,512")
    press(page, "Load 64 GPUs")
    assert not page.exception and not page.error, texts(page)
    link = link_of(page)
    assert link["gpus"] == "64" and link["pp"] == "1" and link["ep"] == "8" and link["recompute"] == "none"
    assert "show" not in link
    assert [each.value for each in page.success] == [
        "The plan of 64 GPUs is loaded: every page is of it now; What if has its figures."
    ]
    assert "64 × h100" in texts(opened("plan", **link))


def test_bad_sizes_are_said_in_words(inline_jobs: Inline) -> None:
    page = opened("plan", **LINK, show="plan", sizes="100")
    assert not page.exception
    assert "100 GPUs are no whole number of nodes of 8" in texts(page)


def test_no_size_that_meets_the_limits_takes_none(inline_jobs: Inline) -> None:
    page = opened("plan", **LINK, show="plan", sizes="64,512", max_usd="1")
    assert not page.exception and not page.error
    assert "Taken: none" in texts(page)


SOURCE = Source("mixtral-8x22b", None, ("cluster.num_gpus=256", "parallel.pp=4"))


def test_the_changes_of_a_plan_load_to_it() -> None:
    row = PlanRow(
        num_gpus=64, fits=True, keys={"parallel.pp": 2, "recompute": "none", "parallel.layers_per_stage": None}
    )
    assert plan_changes(row, SOURCE) == {"gpus": "64", "pp": "2", "recompute": "none"}


def test_a_plan_that_the_link_cannot_say_is_not_offered() -> None:
    row = PlanRow(num_gpus=64, fits=True, keys={"parallel.layers_per_stage": [14, 14, 14, 14]})
    assert plan_changes(row, SOURCE) is None, "the link has no word for it"
    assert plan_changes(row.model_copy(update={"keys": {"parallel.pp": 5}}), SOURCE) is None, "it does not load"
    kept = Source("mixtral-8x22b", None, ("parallel.layers_per_stage=[14, 14, 14, 14]", *SOURCE.overrides))
    same = row.model_copy(update={"keys": {"parallel.pp": 4, "parallel.layers_per_stage": None}})
    assert plan_changes(same, kept) is None, "a list that was asked for stays"
