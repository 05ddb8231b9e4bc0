"""The timeline page: every control once, what stands in the link, figures as the command line has them."""

from __future__ import annotations

import json

import pytest
from streamlit.testing.v1 import AppTest

from dashboards.keys import PAGE_KEYS
from dashboards.source import Source
from dashboards.widgets.window import SLIDER, Window, box_window, window_of
from dashboards.work import timeline as work
from simulator import load_scenario, simulate_step
from simulator.report import numbers
from tests.dashboards.inline import Inline
from tests.dashboards.pages import link_of, opened, texts

SMALL = {"preset": "mixtral-8x22b", "draws": "1", "pp": "7", "batch": "112", "gpus": "112"}
OVERRIDES = ("draws=1", "parallel.pp=7", "training.global_batch_size=112", "cluster.num_gpus=112")


def page(**link: str) -> AppTest:
    found = opened("timeline", **SMALL, **link)
    assert not found.exception
    return found


def values(found: AppTest) -> list[str]:
    return [metric.value.replace("\\", "") for metric in found.metric]


def range_of(found: AppTest) -> list[float]:
    chart = json.loads(found.get("plotly_chart")[0].proto.spec)
    return list(chart["layout"]["xaxis"]["range"])


def test_it_opens_with_the_whole_step_and_the_results_figures(inline_jobs: Inline) -> None:
    found = page()
    step = simulate_step(load_scenario("mixtral-8x22b", OVERRIDES)).step
    assert values(found)[0] == numbers.seconds(step.step_s)
    assert range_of(found) == pytest.approx([0.0, step.step_s])
    assert found.slider(key=SLIDER).value == pytest.approx((0.0, step.step_s))
    assert link_of(found) == SMALL
    assert len(found.dataframe) == 2


def test_the_window_is_in_the_link_and_found_again(inline_jobs: Inline) -> None:
    found = page()
    whole = found.slider(key=SLIDER).value[1]
    found.slider(key=SLIDER).set_value((0.25 * whole, 0.5 * whole)).run()
    link = link_of(found)
    assert float(link["from"]) == pytest.approx(0.25 * whole, rel=0.01)
    again = page(from_=link["from"], to=link["to"])
    assert range_of(again) == pytest.approx(range_of(found))
    assert again.slider(key=SLIDER).value == pytest.approx(found.slider(key=SLIDER).value)
    found.button(key="window-Whole step").click().run()
    assert link_of(found) == SMALL
    assert range_of(found)[0] == 0.0


def test_the_buttons_move_the_window(inline_jobs: Inline) -> None:
    found = page(from_="2", to="3")
    for button, expected in (("◀ Earlier", (1.5, 2.5)), ("Later ▶", (2.0, 3.0)), ("Wider", (1.5, 3.5))):
        found.button(key=f"window-{button}").click().run()
        assert tuple(float(link_of(found)[name]) for name in ("from", "to")) == expected


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [("5", "4", (0.0, 10.0)), ("12", "13", (0.0, 10.0)), ("3", "3", (0.0, 10.0)), ("3", None, (3.0, 10.0)),
     (None, "3", (0.0, 3.0)), ("3", "99", (3.0, 10.0)), (None, None, (0.0, 10.0))],
)  # fmt: skip
def test_a_window_that_is_none_is_the_whole_step(
    start: str | None, end: str | None, expected: tuple[float, float]
) -> None:
    window = window_of(start, end, 10.0)
    assert (window.start_s, window.end_s) == expected
    assert window.is_whole == (expected == (0.0, 10.0))


def test_windows_stay_inside_the_step() -> None:
    near = Window(0.1, 0.3, 10.0)
    earlier, wider, later = near.moved(-1.0), near.widened(4.0), Window(9.9, 10.0, 10.0).moved(2.0)
    assert (earlier.start_s, earlier.end_s) == (0.0, pytest.approx(0.2))
    assert (wider.start_s, wider.end_s) == (0.0, pytest.approx(0.6))
    assert (later.start_s, later.end_s) == (pytest.approx(9.9), pytest.approx(10.0))


@pytest.mark.parametrize(
    ("sides", "expected"),
    [((250.0, 100.0), (0.1, 0.25)), ((-50.0, 100.0), (0.0, 0.1)), ((9900.0, 12_000.0), (9.9, 10.0)), ((5.0, 5.0), None),
     ((10_500.0, 12_000.0), None)],
)  # fmt: skip
def test_a_box_on_an_axis_in_milliseconds_is_a_window_in_seconds(
    sides: tuple[float, float], expected: tuple[float, float] | None
) -> None:
    window = box_window(sides, 1e-3, 10.0)
    assert (window and (window.start_s, window.end_s)) == (expected and pytest.approx(expected))


def test_ranks_and_streams_are_chosen_and_kept(inline_jobs: Inline) -> None:
    found = page()
    found.multiselect(key="timeline-ranks").set_value([0, 3]).run()
    assert link_of(found)["ranks"] == "0,3"
    assert "Shown are ranks 0, 3 of 7" in texts(found).replace("\\", "")
    found.button_group(key="timeline-streams").set_value([0]).run()
    assert link_of(found)["streams"] == "0"
    names = json.loads(found.get("plotly_chart")[0].proto.spec)["layout"]["yaxis"]["ticktext"]
    assert names == ["rank 0", "rank 3"]
    again = page(ranks="0,3", streams="0")
    assert again.multiselect(key="timeline-ranks").value == [0, 3]
    absent = page(ranks="3,99", streams="0,3")
    assert absent.multiselect(key="timeline-ranks").value == [3]
    streams = absent.button_group(key="timeline-streams")
    assert (streams.value, "to host" in streams.options) == ([0], False), "nothing is offloaded"
    read = next(key.read for key in PAGE_KEYS if key.name == "streams")
    assert (read("0,5"), read("6")) == ("0,5", None)


def test_a_second_schedule_stands_below_with_its_differences(inline_jobs: Inline) -> None:
    found = page()
    found.selectbox(key="timeline-second").select("gpipe").run()
    assert not found.exception
    assert link_of(found)["second"] == "gpipe"
    step = simulate_step(load_scenario("mixtral-8x22b", (*OVERRIDES, "parallel.schedule=gpipe"))).step
    assert values(found)[5] == numbers.seconds(step.step_s)
    assert found.metric[5].delta[0] in "+-"
    assert len(found.dataframe) == 4
    found.selectbox(key="timeline-second").select("none").run()
    assert link_of(found) == SMALL


def test_a_schedule_that_cannot_run_the_layout_is_explained(inline_jobs: Inline) -> None:
    found = page(second="dualpipe")
    (error,) = found.error
    assert "dualpipe cannot run this layout" in error.value.replace("\\", "")
    assert "pipeline ranks" in error.value.replace("\\", "")
    assert found.get("plotly_chart"), "the first timeline is still there"


def test_another_schedule_gets_the_chunks_that_it_needs() -> None:
    plain = Source("mixtral-8x22b", None, OVERRIDES)
    assert work.under(plain, "gpipe").overrides[-1] == "parallel.schedule=gpipe"
    chunks = work.under(plain, "interleaved_1f1b")
    assert chunks.overrides[-2:] == ("parallel.schedule=interleaved_1f1b", "parallel.vpp=2")
    assert chunks.load().parallel.vpp == 2
    four = Source("mixtral-8x22b", None, (*chunks.overrides[:-1], "parallel.vpp=4"))
    assert work.under(four, "interleaved_1f1b").load().parallel.vpp == 4
    back = work.under(chunks, "1f1b")
    assert back.load().parallel.vpp == 1


def test_the_rank_of_the_window_is_chosen(inline_jobs: Inline) -> None:
    found = page(from_="1", to="2")
    first = found.dataframe[1].value
    found.selectbox(key="timeline-rank").set_value(3).run()
    assert not first.equals(found.dataframe[1].value)


def test_prices_ask_for_the_same_timeline_and_draws_are_refined(inline_jobs: Inline) -> None:
    link = {**SMALL, "draws": "2"}
    found = opened("timeline", **link)
    assert "the mean of the draws is" in texts(found)
    count = len(inline_jobs.jobs)
    opened("timeline", **link, price="3.5", tokens="1e12")
    assert len(inline_jobs.jobs) == count == 2
    assert {job.function.split(":")[1] for job in inline_jobs.jobs.values()} == {"timeline", "step"}
