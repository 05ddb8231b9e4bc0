"""The network page names the hottest link with a step's own figures, for all traffic and for each kind."""

from __future__ import annotations

from typing import Any

from dashboards import jobs
from dashboards.pool import Job
from dashboards.widgets.problems import as_text
from simulator import load_scenario
from simulator.report.network_words import hottest_sentence
from simulator.results.network_view import NetworkView
from simulator.step.graph import build_graph
from simulator.step.network_load import network_view
from simulator.step.prepared import prepare
from simulator.step.step import simulate_prepared
from tests.dashboards.inline import Inline
from tests.dashboards.pages import link_of, opened, texts

LINK = {"preset": "mixtral-8x22b", "draws": "1"}


def view(*sets: str) -> NetworkView:
    step = prepare(load_scenario("mixtral-8x22b", sets))
    return network_view(step, build_graph(step), simulate_prepared(step, explained=False).step.step_s)


def test_the_hottest_link_is_that_of_the_simulated_step(inline_jobs: Inline) -> None:
    page = opened("network", **LINK)
    assert not page.exception and not page.error
    assert as_text(hottest_sentence(view("draws=1"))) in texts(page)
    links, collectives = (each.value for each in page.dataframe)
    assert list(links["link"])[:2] == ["NVLink 4 of each GPU", "NIC of each GPU"]
    assert "dispatch, forward" in set(collectives["collective"])
    assert link_of(page) == LINK


def test_a_kind_of_traffic_is_chosen_and_stands_in_the_link(inline_jobs: Inline) -> None:
    page = opened("network", **LINK)
    assert page.radio[0].options[0] == "all together" and len(page.radio[0].options) == 4
    page.radio[0].set_value("pp").run()
    assert not page.exception
    assert link_of(page) == {**LINK, "show": "pp"}
    assert as_text(hottest_sentence(view("draws=1"), "pp")) in texts(page)
    again = opened("network", **LINK, show="pp")
    assert again.radio[0].value == "pp"
    page.radio[0].set_value("all").run()
    assert link_of(page) == LINK


class Slow(Inline):
    """Refinements are on their way until they are let through."""

    is_open = False

    def ask(self, key: str, function: str, arguments: tuple[Any, ...], later: bool, session: str) -> Job:
        if later and not self.is_open:
            return Job(key, function, arguments, later, next(self.number), state="running")
        return super().ask(key, function, arguments, later, session)


def test_a_first_answer_says_so_and_is_refined() -> None:
    slow = Slow()
    jobs.install(slow)
    try:
        page = opened("network", preset="mixtral-8x22b", draws="3")
        assert as_text(hottest_sentence(view("draws=2"))) in texts(page)
        (progress,) = page.get("progress")
        assert "First answer from 2 of 3 draws, refining" in str(progress.proto)
        slow.is_open = True
        page.run()
        assert as_text(hottest_sentence(view("draws=3"))) in texts(page)
        assert not page.get("progress")
    finally:
        jobs.install(None)


def test_one_domain_and_another_page_s_words_in_the_link(inline_jobs: Inline) -> None:
    page = opened("network", preset="mixtral-8x22b", draws="1", gpus="8", pp="1", ep="8", show="times")
    assert not page.exception and not page.error, texts(page)
    assert "no traffic leaves the domain" in texts(page)


def test_what_is_no_scenario_says_so(inline_jobs: Inline) -> None:
    page = opened("network", preset="mixtral-8x22b", pp="13")
    assert not page.exception and len(page.error) == 1 and not page.dataframe
