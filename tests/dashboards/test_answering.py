"""Pages that wait for runs: whatever ends at whatever moment, the page shows the best that is known, or why there is none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from dashboards import answers
from dashboards.answers import Answer
from dashboards.jobs import Job
from dashboards.source import Source
from dashboards.worker import Failure
from simulator.errors import Problem
from tests.dashboards.inline import Inline
from tests.dashboards.pages import opened, texts
from tests.dashboards.test_what_if import LINK, of_tiny

PAGES = ("what_if", "report", "accuracy")
of = answers.of


@dataclass
class Ending(Job):
    """A job that ends while the page is being made: over from the third time on that the page asks."""

    asked_for: Iterator[bool] = field(default_factory=lambda: iter((False, False)))

    @property
    def is_over(self) -> bool:
        return next(self.asked_for, True)


def job(state: str = "queued") -> Job:
    return Job("k", "f", (), False, 1, state)  # type: ignore[arg-type]


def first_then(monkeypatch: pytest.MonkeyPatch, first: Iterable[Answer]) -> None:
    """`answers.of` gives these, then what it gives always; a baseline is never there."""
    left = iter(first)

    def asked(source: Source, *, only_whole: bool = False) -> Answer:
        return Answer(None, 4, 4, (job(),)) if only_whole else next(left, None) or of(source)

    monkeypatch.setattr(answers, "of", asked)


def is_whole(page: AppTest) -> bool:
    """Whether the page shows what no page shows of a run that is still computed."""
    shown = texts(page)
    return "refining" not in shown and any(words in shown for words in ("What binds", "Download", "Where its seconds"))


@pytest.mark.parametrize("slug", PAGES)
def test_a_run_that_ended_while_the_page_was_made_is_shown(
    slug: str, inline_jobs: Inline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its jobs are over when the page looks, so that nothing would ever wake it."""
    first_then(monkeypatch, [Answer(None, 1, 1, (job("done"),))])
    page = opened(slug, **LINK)
    assert not page.exception
    assert is_whole(page)


def test_a_first_answer_does_not_wait_for_the_baseline(inline_jobs: Inline, monkeypatch: pytest.MonkeyPatch) -> None:
    first_then(monkeypatch, [Answer(None, 1, 1, (Ending("k", "f", (), False, 1),))])
    page = opened("what_if", **LINK, batch="64")
    assert not page.exception
    assert is_whole(page)
    assert "is being simulated" in texts(page)


@pytest.mark.parametrize("slug", PAGES)
def test_a_run_whose_worker_died_can_be_tried_again(
    slug: str, inline_jobs: Inline, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = job("failed")
    failed.error = Failure((Problem("", "", "the worker ended"),), is_input=False)
    first_then(monkeypatch, [Answer(None, 1, 1, (failed,), failed)])
    page = opened(slug, **LINK)
    assert not page.exception
    assert "the worker ended" in texts(page)
    assert "Try again" in [button.label for button in page.button]


def test_runs_that_failed_for_one_reason_say_so_once(inline_jobs: Inline, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = job("failed")
    failed.error = Failure((Problem("", "", "the worker ended"),), is_input=False)
    first_then(monkeypatch, [Answer(None, 1, 1, (failed,), failed)] * 2)
    page = opened("compare", **LINK, with_="now,now")
    assert not page.exception
    assert [button.label for button in page.button] == ["Try again"]


def test_a_baseline_that_failed_is_not_waited_for(inline_jobs: Inline, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = job("failed")
    failed.error = Failure((Problem("", "", "the worker ended"),), is_input=False)

    def asked(source: Source, *, only_whole: bool = False) -> Answer:
        return Answer(None, 1, 1, (failed,), failed) if only_whole else of(source)

    monkeypatch.setattr(answers, "of", asked)
    page = opened("what_if", **LINK, batch="64")
    assert "cannot be computed" in texts(page)
    assert is_whole(page)


def test_a_first_answer_stays_while_a_part_of_the_whole_one_is_missing(
    inline_jobs: Inline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All draws of the step are there, what the assumptions are worth is not."""
    ask = inline_jobs.ask

    def without_effects(key: str, function: str, arguments: tuple[Any, ...], later: bool, session: str) -> Job:
        return job() if function.endswith(":effects") else ask(key, function, arguments, later, session)

    monkeypatch.setattr(inline_jobs, "ask", without_effects)
    found = of(of_tiny("draws=3"))
    assert found.is_first and found.result is not None and not found.is_over
    assert [each.is_over for each in found.jobs] == [True, False]
