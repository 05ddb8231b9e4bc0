"""Figures and tables of a comparison say what the comparison says, in both themes, with names as text."""

from __future__ import annotations

from math import fsum
from typing import Any

import pytest

from simulator.report.figures.compare import (
    faster_colour,
    results_alt,
    results_figure,
    slower_colour,
    waterfall_alt,
    waterfall_figure,
)
from simulator.report.figures.look import BLACK, WHITE, _contrast, ink
from simulator.report.frames.compare import inputs_frame, results_in_words
from simulator.report.theme import BASIS, SERIES, Mode
from simulator.results.comparison import compare
from simulator.results.run_result import RunResult
from tests.report.test_comparison_report import PLAN, changed
from tests.results.test_comparison import BASE, faster, step_of

TAG = "<b>x</b>"


def waits() -> RunResult:
    """The made-up run with half a second more of bubble, a tenth less of attention."""
    seconds = {each.category: each.seconds for each in BASE.step.by_category}
    seconds |= {"bubble": seconds["bubble"] + 0.5, "attention": seconds["attention"] - 0.1}
    step = step_of(BASE.step.step_s + 0.4, seconds)
    return BASE.model_copy(update={"step": step, "scenario": BASE.scenario | {"name": TAG}})


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_the_waterfall_goes_from_one_step_to_the_other(mode: Mode) -> None:
    comparison = compare(BASE, [faster(0.9), waits()])
    (trace,) = waterfall_figure(comparison, mode, place=1).data
    assert trace.measure == ("absolute", "relative", "relative", "total")
    assert list(trace.y) == pytest.approx([20.4, 0.5, -0.1, 20.8])
    assert fsum(trace.y[:3]) == pytest.approx(trace.y[3])
    assert list(trace.text) == ["20.4 s", "+500 ms", "-100 ms", "20.8 s"]
    assert (trace.increasing.marker.color, trace.decreasing.marker.color) == (slower_colour(mode), faster_colour(mode))
    assert trace.x[3].strip() == "&lt;b&gt;x&lt;/b&gt;"


def test_the_axis_of_a_small_difference_is_cut_and_says_so() -> None:
    axis = waterfall_figure(compare(BASE, [waits()])).layout.yaxis
    assert "axis cut" in axis.title.text
    assert 20.0 < axis.range[0] < 20.4
    assert axis.range[1] > 20.9
    whole = waterfall_figure(compare(BASE, [faster(0.2)])).layout.yaxis
    assert (whole.range[0], "cut" in whole.title.text) == (0.0, False)


def test_bars_are_per_cent_of_the_base_with_intervals() -> None:
    """A step of 90 %, its 90 % interval 17.01 to 20.43 s of 20.4 s; what did not change is 100 %."""
    slower = BASE.step.model_copy(update={"tokens_per_s_per_gpu": BASE.step.tokens_per_s_per_gpu / 2})
    figure = results_figure(compare(BASE, [faster(0.9), BASE.model_copy(update={"step": slower})]))
    one, two = figure.data
    assert list(one.y) == list(two.y) == ["step", "tokens/s/GPU"]
    assert list(one.x) == pytest.approx([90.0, 100.0])
    assert list(two.x) == pytest.approx([100.0, 50.0])
    assert one.error_x.arrayminus[0] == pytest.approx(90 - 100 * 17.01 / 20.4)
    assert one.error_x.array[0] == pytest.approx(100 * 20.43 / 20.4 - 90)


def test_figures_that_change_alike_share_a_bar() -> None:
    """Twice the price: cost and cost a trillion tokens."""
    cost = BASE.totals.cost_usd
    assert cost is not None
    dear = BASE.model_copy(update={"totals": BASE.totals.model_copy(update={"cost_usd": cost.times(2.0)})})
    (trace,) = results_figure(compare(BASE, [dear])).data
    assert list(trace.y) == ["cost<br>cost per T tokens"]
    assert list(trace.x) == pytest.approx([200.0])


def test_a_run_of_another_size_leaves_room_for_the_others() -> None:
    long = results_figure(compare(BASE, [faster(30.0)]))
    assert (tuple(long.layout.xaxis.range), long.layout.xaxis.title.text) == ((0, 250), "% of made-up, cut at 250")
    assert long.data[0].text[0] == "3,000 %"
    near = results_figure(compare(BASE, [faster(1.5)])).layout.xaxis
    assert "cut" not in near.title.text
    assert near.range[1] > 150 * 22.7 / 20.4


def test_pictures_are_told_in_words() -> None:
    comparison = compare(BASE, [waits()])
    assert waterfall_alt(comparison).startswith(f"From the step of made-up to that of {TAG}: bubble +500 ms, ")
    assert results_alt(comparison) == f"Results in per cent of those of made-up. {TAG}: step 102.0 %."
    nothing = compare(BASE, [BASE])
    assert "no difference" in waterfall_alt(nothing)
    assert "no figure differs" in results_alt(nothing)
    assert not results_figure(nothing).data[0].x


def test_tables_hold_what_the_comparison_holds() -> None:
    beside = PLAN.others[0]
    assert inputs_frame(beside).to_dict("records") == [
        {"key": "parallel.pp", "before": "16", "after": "8"},
        {"key": "parallel.schedule", "before": "dualpipe", "after": "1f1b"},
    ]
    results: list[dict[Any, Any]] = results_in_words(beside, "one", "other").to_dict("records")
    assert results == [
        {"result": "step", "change": "-10.0 %", "one": "20.4 s (18.9 to 22.7 s)", "other": "18.4 s (17.0 to 20.4 s)"},
    ]


def test_a_long_name_keeps_its_number() -> None:
    run = changed({"name": "n" * 100})
    labels = waterfall_figure(compare(BASE, [run, run]), place=1).data[0].x
    assert labels[-1].strip().endswith("(2)")
    assert len(labels[-1].strip()) <= 28


def test_text_stands_out_from_every_colour_that_it_stands_on() -> None:
    """A contrast of 4.5 is what WCAG 2 asks of text of this size; black on white has 21."""
    assert ink("#FFFFFF") == BLACK
    assert ink("#101010") == WHITE
    assert _contrast(BLACK, WHITE) == pytest.approx(21.0)
    for colour in (*SERIES, *BASIS.values()):
        assert _contrast(ink(colour), colour) >= 4.5, colour
