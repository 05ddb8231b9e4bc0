"""A step's timeline as people see it: bars, their words, tables, the picture in words."""

from __future__ import annotations

import re
from functools import lru_cache
from math import fsum
from typing import get_args

import numpy as np
import plotly.graph_objects as go
import pytest

from simulator import load_scenario
from simulator.report import numbers
from simulator.report.figures.timeline import alt, axis_unit, main_streams, overview, overview_of, timeline_figure
from simulator.report.frames.timeline import COLUMN_WORDS, in_words, ranks_frame, window_frame
from simulator.report.theme import CATEGORY, PAGES
from simulator.report.timeline_words import NOTATION_WORDS, draw_words, figures_in_words, hovers, view_words
from simulator.results.step_result import PART_NAMES
from simulator.results.timeline import BUBBLE, END_WAIT, EXPOSED, StepTimeline
from simulator.results.timeline_view import timeline_view
from simulator.schedule.action import Kind
from simulator.step.timeline import step_timeline
from tests.laws.runs import changed
from tests.laws.test_data_parallel import MOE

PIPE = changed(
    MOE, cluster={"num_gpus": 32}, parallel={"pp": 4}, training={"global_batch_size": 64}, device={"speed_cv": 0.02},
    moe={"balance": "learned"}, draws=2,
)  # fmt: skip


@lru_cache
def timeline(schedule: str = "1f1b") -> StepTimeline:
    return step_timeline(load_scenario(PIPE), schedule=schedule)


def bars(figure: go.Figure) -> list[go.Bar]:
    return [trace for trace in figure.data if isinstance(trace, go.Bar)]


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_the_area_of_the_bars_is_the_time_of_the_streams(mode: str) -> None:
    """Of the compute streams, which are full: the step on every rank; a colour has the seconds that it is most of."""
    view = overview_of(timeline(), 600)
    figure = timeline_figure(view, mode)  # type: ignore[arg-type]
    size, _ = axis_unit(view.start_s, view.end_s)
    area = fsum(float(np.dot(trace.x, trace.width)) for trace in bars(figure)) * size
    communication = view.busy_s[view.stream != 0].sum()
    assert area == pytest.approx(view.timeline.num_ranks * view.timeline.step_s + 0.6 * communication, rel=0.05)
    assert sum(len(trace.x) for trace in bars(figure)) == len(view.rank) <= 600
    colours = {trace.name: trace.marker.color for trace in bars(figure)}
    assert colours["exposed comm., waits"] == CATEGORY[EXPOSED]
    assert (colours["bubble"] == CATEGORY[BUBBLE]) == (mode == "light")
    assert len(set(colours.values())) == len(colours)
    assert figure.layout.font.color == PAGES[mode].text  # type: ignore[index]


def test_copies_to_the_host_and_back_have_lanes() -> None:
    document = changed(PIPE, offload={"activations": 1.0}, training={"global_batch_size": 32})
    view = overview_of(step_timeline(load_scenario(document)), 300)
    lanes = timeline_figure(view).layout.yaxis.ticktext
    assert lanes[: len(view.streams)][-2:] == ("to host", "from host")


def test_no_bar_carries_text_and_ranks_stand_from_the_top_down() -> None:
    figure = overview(timeline())
    assert all(trace.text is None and trace.orientation == "h" and trace.base is not None for trace in bars(figure))
    low, high = figure.layout.yaxis.range
    assert low > high
    names = list(figure.layout.yaxis.ticktext)
    assert [name for name in names if name.startswith("rank")] == [f"rank {rank}" for rank in range(4)]


def test_a_report_embeds_it_in_less_than_a_megabyte_and_the_same_each_time() -> None:
    pages = [overview(timeline()).to_html(full_html=False, include_plotlyjs=False, div_id="t") for _ in range(2)]
    assert pages[0] == pages[1]
    assert len(pages[0]) < 1_000_000


def test_a_second_timeline_stands_below_on_the_same_axis() -> None:
    upper, below = (timeline_view(timeline(name), 0.0, timeline("gpipe").step_s, 800) for name in ("1f1b", "gpipe"))
    figure = timeline_figure(upper, below=below, selects=True)
    assert figure.layout.dragmode == "select"
    assert figure.layout.xaxis.range == (0.0, timeline("gpipe").step_s / axis_unit(0.0, timeline("gpipe").step_s)[0])
    assert [note.text.split(",")[0] for note in figure.layout.annotations] == ["<b>1f1b</b>", "<b>gpipe</b>"]
    heights = [figure.layout.annotations[i].y for i in range(2)]
    assert heights[0] < heights[1]
    names = list(figure.layout.yaxis.ticktext)
    assert names[: len(names) // 2] == names[len(names) // 2 :]


def test_an_operator_says_its_shape_seconds_and_source() -> None:
    found = timeline()
    view = timeline_view(found, 0.0, found.step_s / 50, ranks=(0,))
    assert view.is_single
    text = next(text for text in hovers(view) if text.startswith("<b>layer 0, attention forward, core"))
    lines = text.split("<br>")
    assert lines[1] == "rank 0, compute, stage 0, micro-batch 0"
    assert re.fullmatch(r"\d.* [µm]s from .* [µm]s", lines[2])
    assert "times the" in lines[3]
    assert lines[4].startswith(
        "attention (attention fwd bf16, batch 1, seq 4,096, heads 8, head dim qk 128, head dim v 128): "
    )
    assert lines[5].startswith("source: ")


def test_each_half_of_a_pair_says_its_own_micro_batch() -> None:
    found = step_timeline(load_scenario(changed(PIPE, parallel={"schedule": "dualpipe"})))
    texts = hovers(timeline_view(found, ranks=(1,), streams=(0,)))
    pairs = {text for text in texts if ", in 1F" in text and "&2B" in text}
    ahead, back = ({text for text in pairs if f"attention {which}, core" in text} for which in ("forward", "backward"))
    assert ahead and back
    assert all(re.search(r"stage 1, micro-batch (\d+), in 1F\1&", text) for text in ahead)
    assert all(re.search(r"stage 2, micro-batch (\d+), in 1F\d+&2B\1<", text) for text in back)


def test_what_is_lost_says_why_and_for_what() -> None:
    found = timeline()
    texts = hovers(timeline_view(found, ranks=(1,), streams=(0,)))
    exposed = [text for text in texts if text.startswith("<b>exposed")]
    assert any("until this ends: layer" in text for text in exposed)
    assert all(", in 1" in text for text in exposed)
    bubble = next(text for text in texts if text.startswith("<b>bubble"))
    assert "before 1F0" in bubble


def test_a_merged_bar_lists_the_shares_of_its_categories() -> None:
    found = timeline()
    view = timeline_view(found, max_bars=60)
    bar = int(np.argmax(view.count))
    text = hovers(view)[bar]
    assert text.startswith(f"<b>{view.count[bar]:,} operators</b>, rank {view.rank[bar]}")
    largest = view.seconds[bar].max() / view.busy_s[bar]
    assert numbers.percent(largest) in text
    assert "are merged" in view_words(view)
    assert f"{view.count.sum():,} operators" in view_words(view)


def test_actions_are_named_where_there_is_room() -> None:
    found = timeline()
    near = timeline_figure(timeline_view(found, 0.4 * found.step_s, 0.5 * found.step_s))
    (names,) = (trace for trace in near.data if isinstance(trace, go.Scatter))
    assert set(names.text) <= set(found.action_names)
    assert len(names.text) > 3


def test_the_picture_in_words_has_the_figures_of_the_timeline() -> None:
    found = timeline()
    text = alt(overview_of(found))
    assert "4 pipeline ranks under 1f1b with 8 micro-batches" in text
    assert numbers.step_time(found.step_s) in text
    assert f"Bubble: {numbers.percent(found.mean_bubble_s / found.step_s)} on average" in text
    most = max(range(4), key=lambda rank: found.by_category(rank)[EXPOSED])
    share = numbers.percent(found.by_category(most)[EXPOSED] / found.step_s)
    assert f"most on rank {most} ({share})" in text
    assert "Shown: " in alt(timeline_view(found, 0.0, found.step_s / 2))


def test_it_says_which_draw_and_which_pipeline() -> None:
    found = timeline()
    assert draw_words(found, 2.5).startswith("Draw 1 of 2, the first: ")
    assert "the mean of the draws is 2.50 s" in draw_words(found, 2.5)
    assert "mean" not in draw_words(found)
    assert f"pipeline {found.lane.index} of 4: its last backward ends last" in draw_words(found)
    sure = step_timeline(load_scenario(changed(PIPE, moe={"balance": "forced"}, device={"speed_cv": 0.0})))
    assert "nothing in it is random" in draw_words(sure)


def test_the_tables_sum_to_the_step_and_to_the_window() -> None:
    found = timeline()
    frame = ranks_frame(found)
    assert frame[list(PART_NAMES)].sum(axis=1).tolist() == pytest.approx([found.step_s] * 4, rel=1e-9)
    assert frame.pp_rank.tolist() == list(range(4))
    assert frame.in_flight.tolist() == [4, 3, 2, 1]
    shown = in_words(frame, found.step_s)
    assert "overlapped_f_b_s" not in shown.columns
    small = in_words(frame.assign(bubble_s=[-1e-9, 1e-9, -0.0123, 0.0123]), found.step_s).to_html()
    assert ">-12.3<" in small and ">12.3<" in small
    assert ">-0.0<" not in small
    window = window_frame(found, 2, 0.1 * found.step_s, 0.4 * found.step_s)
    assert window.rank_s.sum() == pytest.approx(0.3 * found.step_s, rel=1e-9)
    assert window.mean_s.sum() == pytest.approx(0.3 * found.step_s, rel=1e-9)
    assert (window.rank_s.diff().dropna() <= 0).all()
    assert (window.rank_s - window.mean_s).tolist() == window.difference_s.tolist()
    assert set(COLUMN_WORDS) == set(frame.columns) | set(window.columns)


def test_the_headline_compares_with_the_first() -> None:
    first, second = timeline(), timeline("gpipe")
    rows = figures_in_words([first, second])
    assert [row[0][1] for row in rows] == [numbers.seconds(first.step_s), numbers.seconds(second.step_s)]
    assert all(delta == "" for _, _, delta, _ in rows[0])
    assert rows[1][-1][:3] == ("in flight", "8", "+4")
    difference = second.mean_bubble_s - first.mean_bubble_s
    assert rows[1][1][2] == ("-" if difference < 0 else "+") + numbers.seconds(abs(difference))


def test_streams_that_hardly_do_anything_have_no_lane_of_their_own_accord() -> None:
    found = timeline()
    busy = found.by_category(0, 2)
    assert (2 in main_streams(found)) == (fsum(busy.values()) > 0.01 * found.step_s)
    assert END_WAIT in found.by_category(0)


@pytest.mark.parametrize(
    ("at_s", "span_s", "text"),
    [(12.34567, 19.1, "12.346 s"), (12.34567, 0.01, "12.345670 s"), (0.0034, 0.01, "3.400 ms"), (0.0, 20.0, "0.000 s")],
)
def test_moments_are_told_to_a_thousandth_of_their_window(at_s: float, span_s: float, text: str) -> None:
    assert numbers.moment(at_s, span_s) == text


def test_a_window_behind_the_shorter_of_two_steps_is_drawn_empty() -> None:
    short, long = sorted((timeline("1f1b"), timeline("gpipe")), key=lambda each: each.step_s)
    window = 1.001 * short.step_s, 1.01 * short.step_s
    view, below = timeline_view(short, *window), timeline_view(long, *window)
    assert len(view.rank) == 0
    assert len(timeline_figure(view, below=below).layout.annotations) == 2
    assert "busy 0.0 %" in alt(view)
    assert window_frame(short, 0, *window).empty


def test_every_kind_of_action_that_is_named_is_explained() -> None:
    explained = {"F": "3F17 is the forward", "FB": "& a pair"}
    for kind in get_args(Kind):
        assert re.search(explained.get(kind, rf"\b{kind} (a|the) "), NOTATION_WORDS), kind
