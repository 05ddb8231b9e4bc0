"""Compare: scenarios and files beside a base, with the figures that `moesim compare` prints."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from dashboards import answers, jobs
from dashboards.answers import Answer
from dashboards.compared import Side, keep, result_of
from dashboards.keys import BY_NAME
from dashboards.link import pack
from dashboards.pool import Job
from dashboards.source import UPLOADED, Source
from dashboards.uploads import Uploaded
from dashboards.views.compare import BESIDE, FILE, RUNS
from dashboards.worker import Failure
from simulator import load_scenario, simulate_run
from simulator.errors import InputError, Problem
from simulator.report.comparison_text import shown_results
from simulator.results.comparison import compare
from simulator.results.document import to_json
from simulator.results.run_result import RunResult
from tests.dashboards.inline import Inline
from tests.dashboards.pages import link_of, opened, texts

pytestmark = pytest.mark.usefixtures("kept_jobs")

SMALL = {"preset": "mixtral-8x22b", "draws": "1"}
SCENARIO = "schema_version: 1\nextends: mixtral-8x22b\nname: mine\ndraws: 1\nparallel: {pp: 7}\n"


@pytest.fixture(scope="module", autouse=True)
def kept_jobs() -> Iterator[None]:
    """Work is done here, and once for all tests of this file."""
    jobs.install(Inline())
    yield
    jobs.install(None)


@pytest.fixture(scope="module")
def one_draw() -> RunResult:
    return simulate_run(load_scenario("mixtral-8x22b", ["draws=1"]))


@pytest.fixture(scope="module")
def shallow() -> RunResult:
    return simulate_run(load_scenario("mixtral-8x22b", ["draws=1", "parallel.pp=7"]))


def files(*texts: str) -> list[str]:
    """Entries of results or scenarios that this server keeps."""
    return [keep(uploaded(text)) for text in texts]


def uploaded(text: str) -> Uploaded:
    if text.startswith("schema"):
        return Uploaded("file", source=Source(UPLOADED, text))
    return Uploaded("file", result=RunResult.model_validate_json(text))


def table(page: AppTest, title: str) -> list[dict[Any, Any]]:
    """The rows of the table that has a column of this name."""
    return next(frame.value.to_dict("records") for frame in page.dataframe if title in frame.value.columns)


def test_the_figures_are_those_of_the_command(one_draw: RunResult, shallow: RunResult) -> None:
    """A result file beside what is asked for."""
    (entry,) = files(to_json(one_draw))
    page = opened("compare", **SMALL, pp="7", with_=f"{entry},now")
    assert not page.exception
    assert not page.error
    expected = compare(one_draw, [shallow])
    rows = shown_results(expected.others[0])
    assert [(row["result"], row["change"]) for row in table(page, "result")] == [
        (row.label, row.change) for row in rows
    ]
    assert table(page, "key") == [{"key": "parallel.pp", "before": "14", "after": "7"}]
    metric = next(metric for metric in page.metric if metric.label == "Step")
    step = next(row for row in rows if row.key == "step.step_s")
    assert (metric.value.replace("\\", ""), metric.delta.replace("\\", "")) == (step.after, step.change)
    assert "The step takes" in texts(page)


def test_a_changed_scenario_stands_beside_the_unchanged_one() -> None:
    link = {"text": pack(SCENARIO), "pp": "14"}
    page = opened("compare", **link)
    assert not page.exception
    assert page.multiselect(RUNS).value == ["plain", "now"]
    assert table(page, "key") == [{"key": "parallel.pp", "before": "7", "after": "14"}]
    assert link_of(page) == link


def test_the_draws_of_a_first_answer_are_no_changed_input(one_draw: RunResult) -> None:
    """Its scenario asks for all draws, though its figures are of few."""
    side = Side("now", "x", Source("mixtral-8x22b"))
    first = result_of(side, Answer(one_draw, 2, 32))
    assert first is not None
    assert first.scenario["draws"] == 32
    assert first.step == one_draw.step
    assert result_of(side, Answer(one_draw, 1, 1)) is one_draw
    assert result_of(Side("file:", "x", result=one_draw), None) is one_draw


def test_what_is_pinned_is_the_base() -> None:
    page = opened("compare", **SMALL, pinned="preset=mixtral-8x22b&draws=1&pp=7")
    assert page.multiselect(RUNS).value == ["pinned", "now"]
    assert table(page, "key") == [{"key": "parallel.pp", "before": "7", "after": "14"}]


def test_one_run_alone_says_what_to_do() -> None:
    page = opened("compare", preset="mixtral-8x22b")
    assert not page.exception
    assert "Choose a second run" in texts(page)
    assert not page.dataframe


def test_a_choice_stands_in_the_link_in_its_order(one_draw: RunResult, shallow: RunResult) -> None:
    first, second = files(to_json(shallow), to_json(one_draw))
    page = opened("compare", **SMALL, with_=f"{first},{second}")
    page.multiselect(RUNS).set_value([second, "now", first]).run()
    assert not page.exception
    assert link_of(page)["with"] == f"{second},now,{first}"
    assert page.segmented_control(BESIDE).value == 0  # type: ignore[attr-defined]
    assert [frame.value.columns[0] for frame in page.dataframe] == []
    assert "None: the scenarios are the same" in texts(page)
    page.segmented_control(BESIDE).set_value(1).run()  # type: ignore[attr-defined]
    assert link_of(page)["beside"] == "2"
    assert table(page, "key") == [{"key": "parallel.pp", "before": "14", "after": "7"}]


def test_an_upload_joins_the_comparison_once(one_draw: RunResult) -> None:
    (entry,) = files(to_json(one_draw))
    page = opened("compare", **SMALL, with_=entry)
    page.file_uploader(FILE).upload("mine.yaml", SCENARIO.encode(), "application/yaml").run()
    assert not page.exception
    (own,) = files(SCENARIO)
    assert link_of(page)["with"] == f"{entry},{own}"
    assert table(page, "key") == [{"key": "parallel.pp", "before": "14", "after": "7"}]
    page.multiselect(RUNS).set_value([entry]).run()
    assert link_of(page)["with"] == entry


@pytest.mark.parametrize("data", [b"\x89PNG\r\n\x1a\n", b'{"scenario": {}, "step": {}, "phases": [], "totals": {}}'])
def test_an_upload_that_is_no_run_is_refused_with_one_message(data: bytes) -> None:
    page = opened("compare", preset="mixtral-8x22b")
    page.file_uploader(FILE).upload("mine.json", data, "application/json").run()
    assert not page.exception
    assert len(page.error) == 1
    assert "with" not in link_of(page)


def test_what_cannot_be_computed_is_told_and_the_others_are_compared(one_draw: RunResult, shallow: RunResult) -> None:
    first, second = files(to_json(one_draw), to_json(shallow))
    page = opened("compare", preset="mixtral-8x22b", pp="3", with_=f"{first},now,{second},file:{'0' * 32}")
    assert not page.exception
    assert len(page.error) == 2
    assert "gone from the server" in texts(page)
    assert table(page, "key") == [{"key": "parallel.pp", "before": "14", "after": "7"}]


def test_files_of_unlike_kinds_are_warned_of(one_draw: RunResult) -> None:
    other = one_draw.model_copy(update={"version": "9.9.9", "stack_kind": "transferred"})
    first, second = files(to_json(one_draw), to_json(other))
    page = opened("compare", **SMALL, with_=f"{first},{second}")
    assert [("differ in kind" in each.value, "9" in each.value) for each in page.warning] == [
        (True, False),
        (False, True),
    ]


@pytest.mark.parametrize(
    ("text", "is_taken"),
    [
        ("now,plain,pinned", True), ("mixtral-8x22b,now", True), ("now,now", True), ("file:" + "a" * 32, True),
        ("file:../../x", False), ("<script>", False), (",".join(["now"] * 7), False), ("", False), ("x" * 4_000, False),
    ],
)  # fmt: skip
def test_a_link_names_only_what_can_be_compared(text: str, is_taken: bool) -> None:
    assert (BY_NAME["with"].read(text) == text) is is_taken


def test_the_comparison_can_be_taken_along(one_draw: RunResult, shallow: RunResult) -> None:
    """What the download buttons hand out is what the command prints."""
    from dashboards.views import compare as view

    handed: list[str] = []
    expected = compare(one_draw, [shallow])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(view, "to_json", lambda comparison: handed.append(to_json(comparison)) or to_json(comparison))
        first, second = files(to_json(one_draw), to_json(shallow))
        opened("compare", **SMALL, with_=f"{first},{second}")
    assert [json.loads(text) for text in handed] == [json.loads(to_json(expected))]


def test_a_run_that_turns_out_impossible_is_told(one_draw: RunResult, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the rules of a scenario do not see and its run does."""

    def impossible(source: Source) -> Answer:
        raise InputError([Problem("", "phases", "no such batch")])

    monkeypatch.setattr(answers, "of", impossible)
    (entry,) = files(to_json(one_draw))
    page = opened("compare", **SMALL, with_=f"{entry},now")
    assert not page.exception
    assert "no such batch" in texts(page)
    assert not page.dataframe


def test_a_run_that_failed_says_why_and_can_be_tried_again(
    one_draw: RunResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = Job("k", "f", (), False, 1, "failed", error=Failure((Problem("", "", "the worker ended"),), False))
    monkeypatch.setattr(answers, "of", lambda source: Answer(None, 1, 1, (failed,), failed))
    (entry,) = files(to_json(one_draw))
    page = opened("compare", **SMALL, with_=f"{entry},now")
    assert not page.exception
    assert "the worker ended" in texts(page)
    assert [button.label for button in page.button] == ["Try again"]
