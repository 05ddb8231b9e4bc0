"""The memory page shows what a run's document says, and what recompute and schedule do to it."""

from __future__ import annotations

import pytest
from streamlit.testing.v1 import AppTest

from simulator import load_scenario
from simulator.report import numbers
from simulator.schedule import SCHEDULES
from simulator.step.prepared import prepare
from simulator.step.step import simulate_prepared
from tests.dashboards.inline import Inline
from tests.dashboards.pages import link_of, opened, texts

LINK = {"preset": "mixtral-8x22b", "draws": "1"}


def frames(page: AppTest) -> list[list[str]]:
    """First column of every table."""
    return [list(map(str, table.value.iloc[:, 0])) for table in page.dataframe]


def test_figures_are_those_of_a_run(inline_jobs: Inline) -> None:
    page = opened("memory", **LINK)
    assert not page.exception and not page.error
    memory = simulate_prepared(prepare(load_scenario("mixtral-8x22b", ["draws=1"])), explained=False).memory
    shown = [metric.value for metric in page.metric]
    assert shown[0] == memory.verdict
    assert shown[1].replace("\\", "") == numbers.amount_of_bytes(memory.peak_bytes_per_gpu)
    tensors = page.dataframe[0].value
    worst = memory.worst_stage.tensors
    assert worst is not None
    assert list(tensors["size"]) == [numbers.amount_of_bytes(tensor.bytes) for tensor in worst]
    assert frames(page)[2] == [f"as it is: {name}" if name == "1f1b" else name for name in SCHEDULES.names()]
    assert "interleaved\\_1f1b cannot be" in texts(page)
    assert link_of(page) == LINK


def test_another_rank_and_other_memory_by_the_link(inline_jobs: Inline) -> None:
    page = opened("memory", **LINK)
    page.selectbox[0].select(13).run()
    assert not page.exception
    last = simulate_prepared(prepare(load_scenario("mixtral-8x22b", ["draws=1"])), explained=False).memory.by_stage[13]
    assert last.tensors is not None
    assert list(page.dataframe[0].value["size"]) == [numbers.amount_of_bytes(tensor.bytes) for tensor in last.tensors]


@pytest.mark.slow
def test_what_fits_is_said_and_how_there_would_be_more_room(inline_jobs: Inline) -> None:
    fits = opened("memory", **LINK, recompute="full")
    assert fits.metric[0].value == "fits"
    assert "What would make more room" in texts(fits)


@pytest.mark.slow
def test_step_times_come_on_demand_and_stand_in_the_link(inline_jobs: Inline) -> None:
    page = opened("memory", **LINK)
    assert "step" not in page.dataframe[1].value.columns
    page.toggle[0].set_value(True).run()
    assert not page.exception
    assert link_of(page) == {**LINK, "show": "times"}
    steps = list(page.dataframe[1].value["step"])
    assert all(text.endswith(" s") for text in steps)
    own = simulate_prepared(prepare(load_scenario("mixtral-8x22b", ["draws=1"])), explained=False).step.step_s
    assert steps[1] == numbers.step_time(own)
    page.toggle[0].set_value(False).run()
    assert link_of(page) == LINK


def test_what_is_no_scenario_says_so(inline_jobs: Inline) -> None:
    page = opened("memory", preset="mixtral-8x22b", pp="13")
    assert not page.exception and len(page.error) == 1
    assert not page.metric
