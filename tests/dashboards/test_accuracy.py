"""How right?: the figures of the accuracy file, by GPU, family and group, and what the scenario itself rests on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from dashboards import jobs
from dashboards.views.accuracy import FAMILIES, GPUS, GROUP, UNIT
from simulator.report import numbers
from simulator.report.accuracy import Accuracy, accuracy_of, chosen, read_accuracy, speeds
from simulator.report.accuracy_text import headline
from tests.dashboards.inline import Inline
from tests.dashboards.pages import link_of, opened, texts

pytestmark = pytest.mark.usefixtures("kept_jobs")

SMALL = {"preset": "mixtral-8x22b", "draws": "1"}
ROWS = speeds(read_accuracy())


@pytest.fixture(scope="module")
def kept_jobs() -> Iterator[None]:
    """Work is done here, and once for all tests of this file."""
    jobs.install(Inline())
    yield
    jobs.install(None)


def shown(page: AppTest) -> list[str]:
    return [metric.value for metric in page.metric]


def written(found: Accuracy | None) -> list[str]:
    assert found is not None
    return [
        numbers.whole(found.n).replace(",", r"\,"),
        *(escaped(numbers.percent(each)) for each in (found.mape, found.median)),
        escaped(numbers.signed_percent(found.bias)),
        escaped(numbers.percent(found.coverage)),
    ]


def escaped(text: str) -> str:
    return text.translate(str.maketrans({char: f"\\{char}" for char in ".+-"}))


def test_it_begins_with_the_published_runs_and_says_how_far_to_trust() -> None:
    page = opened("accuracy", **SMALL)
    assert not page.exception
    assert shown(page) == written(accuracy_of(chosen(ROWS, group="published")))
    assert f"{len([row for row in ROWS if row.group == 'published'])} measured runs" in texts(page)
    found = accuracy_of(chosen(ROWS, group="published"))
    assert found is not None
    assert headline(found)[1] in texts(page).replace("\\", "")
    assert link_of(page) == SMALL


@pytest.mark.parametrize(
    ("key", "value", "link", "choice"),
    [
        (GPUS, ["h100"], {"on": "h100"}, {"gpus": ["h100"], "group": "published"}),
        (FAMILIES, ["mpt", "llama"], {"families": "llama,mpt"}, {"models": ["mpt", "llama"], "group": "published"}),
        (GROUP, "all", {"group": "all"}, {}),
        (GROUP, "case", {"group": "case"}, {"group": "case"}),
    ],
)
def test_each_choice_is_that_of_the_file_and_stands_in_the_link(
    key: str, value: Any, link: dict[str, str], choice: Any
) -> None:
    page = opened("accuracy", **SMALL)
    control = page.multiselect(key) if key != GROUP else page.segmented_control(key)  # type: ignore[attr-defined]
    control.set_value(value).run()
    expected = written(accuracy_of(chosen(ROWS, **choice)))
    assert shown(page) == expected
    assert link_of(page) == SMALL | link


def test_the_unit_of_the_scatter_stands_in_the_link() -> None:
    page = opened("accuracy", **SMALL, unit="mfu")
    assert not page.exception
    assert page.segmented_control(UNIT).value == "mfu"  # type: ignore[attr-defined]
    page = opened("accuracy", **SMALL, on="b300", unit="mfu")
    assert page.segmented_control(UNIT).value == "tokens"  # type: ignore[attr-defined]


def test_a_choice_without_runs_says_what_to_do() -> None:
    page = opened("accuracy", **SMALL, on="b300", families="mixtral")
    assert not page.exception
    assert "take a choice away" in texts(page)


def test_a_link_chooses_and_names_that_nothing_has_stand_for_all() -> None:
    page = opened("accuracy", **SMALL, on="h100,<script>", group="case")
    assert not page.exception
    assert shown(page) == written(accuracy_of(chosen(ROWS, group="case")))
    assert link_of(page) == SMALL | {"group": "case"}


def test_the_worst_and_the_most_alike_have_their_sources() -> None:
    page = opened("accuracy", **SMALL)
    worst, totals, alike = (frame.value for frame in page.dataframe)
    assert len(worst) == 10
    assert set(alike.model[:3]) == {"Mixtral-8x22B"}
    assert set(alike.GPU[:3]) == {"h100"}
    assert "2.664 M" not in set(totals.measured)
    assert "GPU-hours" in set(totals.figure)
    assert all(source for frame in (worst, totals, alike) for source in frame.source)
    assert "no batch ramp" in texts(page)


def test_without_a_scenario_the_file_is_shown_all_the_same() -> None:
    page = opened("accuracy", preset="mixtral-8x22b", pp="3")
    assert not page.exception
    assert len(shown(page)) == 5
    assert page.error
