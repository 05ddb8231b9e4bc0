"""Bars at a level of detail: nothing is lost, nothing overlaps, never too many, single operators when there is room."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.results.step_result import RankTimes
from simulator.results.timeline import IDLE, NUM_STREAMS, Lane, OperatorClass, StepTimeline
from simulator.results.timeline_view import GROUPS, TimelineView, timeline_view

CLASSES = (
    OperatorClass("attention", "F", "gemm", 3.0, {"gemm": 2.0, "attention": 1.0}, {"measured": 3.0}),
    OperatorClass("experts", "I", "expert_gemm", 2.0, {"expert_gemm": 2.0}, {"assumed": 2.0}),
    OperatorClass("dispatch", "F", "all_to_all", 1.0, {"all_to_all": 1.0}, {"measured": 1.0}),
    *(OperatorClass(name, "", name, 0.0, {}, {}) for name in IDLE),
)
BUSY = len(CLASSES) - len(IDLE)


def made(slices: list[list[tuple[float, float, int]]], num_ranks: int = 1) -> StepTimeline:
    """A timeline of (gap before, length, class) on each stream."""
    columns: list[tuple[float, float, int, int]] = []
    for stream, row in enumerate(slices):
        at = 0.0
        for gap, length, op_class in row:
            columns.append((at + gap, at + gap + length, stream, op_class))
            at = at + gap + length
    start, end, stream_of, op_class_of = (np.array(column) for column in zip(*columns, strict=True))
    end_s = float(end.max())
    part = {f"{name}_s": 0.0 for name in ("forward", "backward", "weight", "overlapped_f_b", "bubble")}
    return StepTimeline(
        "made", num_ranks, 1, end_s, end_s, 0, 1, Lane(0, 1, "the only one"), start.astype(float), end.astype(float),
        stream_of.astype(np.int32), op_class_of.astype(np.int32), np.full(len(start), -1, dtype=np.int32), CLASSES,
        np.empty((0, 4), dtype=np.int32), (), tuple(RankTimes(pp_rank=r, optimizer_s=end_s, **part) for r in range(num_ranks)),
        (1,) * num_ranks,
    )  # fmt: skip


def row(draw: Any, choices: list[int], *, has_gaps: bool) -> list[tuple[float, float, int]]:
    """Slices whose lengths differ by seven orders of magnitude, as those of a step do."""
    lengths = draw(st.lists(st.integers(-5, 2), min_size=1, max_size=100))
    kinds = draw(st.lists(st.sampled_from(choices), min_size=len(lengths), max_size=len(lengths)))
    fraction = draw(st.floats(1.0, 9.0))
    return [
        (float(10.0**size) if has_gaps and size % 2 else 0.0, fraction * float(10.0**size), kind)
        for size, kind in zip(lengths, kinds, strict=True)
    ]


@st.composite
def timelines(draw: st.DrawFn) -> StepTimeline:
    """One to three ranks: compute streams without gaps, communication with them."""
    num_ranks = draw(st.integers(1, 3))
    rows = []
    for _ in range(num_ranks):
        rows.append(row(draw, list(range(len(CLASSES))), has_gaps=False))
        rows += [row(draw, [2], has_gaps=True) for _ in range(NUM_STREAMS - 1)]
    return made(rows, num_ranks)


def inside(timeline: StepTimeline, start_s: float, end_s: float) -> np.ndarray:
    """(streams, categories) seconds of the slices in a window, one slice after the other."""
    table = np.zeros((timeline.num_ranks * NUM_STREAMS, len(timeline.categories)))
    slices = zip(timeline.stream_of, timeline.start_s, timeline.end_s, timeline.op_class, strict=True)
    for stream, start, end, op_class in slices:
        table[stream] += max(0.0, min(end, end_s) - max(start, start_s)) * timeline.shares[op_class]
    return table


def check_bars(view: TimelineView, max_bars: int) -> None:
    """Few enough, inside the window, and no two on the same place."""
    assert len(view.rank) <= max_bars
    stream = view.rank * NUM_STREAMS + view.stream
    assert (np.diff(stream) >= 0).all()
    assert (view.bar_start_s >= view.start_s).all() and (view.bar_end_s <= view.end_s).all()
    assert (view.bar_end_s > view.bar_start_s).all()
    assert (view.high - view.low) * (view.bar_end_s - view.bar_start_s) == pytest.approx(
        view.busy_s, rel=1e-6, abs=1e-15
    )
    assert (view.low >= 0).all() and (view.high <= 1).all()
    same = stream[1:] == stream[:-1]
    is_behind = view.bar_start_s[1:] >= view.bar_end_s[:-1]
    is_above = (view.bar_start_s[1:] == view.bar_start_s[:-1]) & (view.low[1:] >= view.high[:-1] - 1e-12)
    assert (is_behind | is_above)[same].all()


@settings(derandomize=True, database=None, deadline=None, max_examples=40)
@given(timelines(), st.data())
def test_no_view_loses_a_second_or_draws_too_much(timeline: StepTimeline, data: st.DataObject) -> None:
    start, length = data.draw(st.floats(0, 0.9)), data.draw(st.floats(1e-5, 1.0))
    fewest = GROUPS * timeline.num_ranks * NUM_STREAMS
    max_bars = data.draw(st.integers(fewest, 4 * fewest))
    window = start * timeline.step_s, (start + length) * timeline.step_s
    view = timeline_view(timeline, *window, max_bars, streams=range(NUM_STREAMS))
    check_bars(view, max_bars)
    found = np.zeros((timeline.num_ranks * NUM_STREAMS, len(timeline.categories)))
    np.add.at(found, view.rank * NUM_STREAMS + view.stream, view.seconds)
    assert found == pytest.approx(inside(timeline, *window), rel=1e-6, abs=1e-12)
    assert view.seconds.sum(axis=1) == pytest.approx(view.busy_s, rel=1e-6)


@settings(derandomize=True, database=None, deadline=None, max_examples=20)
@given(timelines())
def test_with_room_for_all_every_bar_is_a_slice_as_it_is(timeline: StepTimeline) -> None:
    view = timeline_view(timeline, max_bars=5000, streams=range(NUM_STREAMS))
    assert view.is_single
    assert np.array_equal(view.slice_of, np.arange(len(timeline.start_s)))
    assert np.array_equal(view.bar_start_s, timeline.start_s)
    assert np.array_equal(view.bar_end_s, timeline.end_s)


def test_a_busy_column_and_what_waits_in_it_stand_on_one_another() -> None:
    """Ten times 2 s of attention and 1 s of bubble: merged, two bars a column, as high as their shares."""
    bubble = BUSY + IDLE.index("bubble")
    timeline = made([[(0.0, 2.0, 0), (0.0, 1.0, bubble)] * 10])
    view = timeline_view(timeline, max_bars=GROUPS)
    assert view.count.tolist() == [5] * 4
    assert view.low.tolist() == pytest.approx([0.0, 2 / 3] * 2)
    assert view.high.tolist() == pytest.approx([2 / 3, 1.0] * 2)
    assert view.busy_s.tolist() == pytest.approx([10.0, 5.0] * 2)
    assert [timeline.categories[c] for c in view.category] == ["gemm", "bubble"] * 2
    busy = dict(zip(timeline.categories, view.seconds[0], strict=True))
    assert busy["attention"] == pytest.approx(10 / 3)


def test_a_sliver_on_a_full_column_is_no_bar_of_negative_height() -> None:
    """What rounding leaves of a wait, behind much that computes: at most nothing of the lane's height."""
    bubble = BUSY + IDLE.index("bubble")
    timeline = made([[(0.0, 7.3 + 0.1 * i, 0) for i in range(200)] + [(0.0, 1e-12, bubble)] + [(0.0, 0.7, 1)] * 50])
    for max_bars in range(5, 120):
        view = timeline_view(timeline, max_bars=max_bars)
        assert (view.high >= view.low).all()
        assert (view.high <= 1.0).all()


def test_a_wide_slice_stays_single_among_thin_ones() -> None:
    timeline = made([[(0.0, 0.01, 0)] * 50 + [(0.0, 90.0, 1)] + [(0.0, 0.01, 0)] * 50])
    view = timeline_view(timeline, max_bars=8)
    assert view.count.max() >= 50
    (wide,) = np.flatnonzero(view.slice_of == 50)
    assert (view.bar_start_s[wide], view.bar_end_s[wide]) == (timeline.start_s[50], timeline.end_s[50])


def test_never_more_bars_than_asked_for_and_most_of_them_used() -> None:
    bubble = BUSY + IDLE.index("bubble")
    lengths = [1.0 + (i * 37 % 101) / 50 for i in range(3000)]
    timeline = made([[(0.0, length, bubble if i % 9 == 0 else i % 2) for i, length in enumerate(lengths)]])
    for max_bars in range(40, 2200, 45):
        view = timeline_view(timeline, 0.0, 0.77 * timeline.step_s, max_bars)
        assert 0.7 * max_bars <= len(view.rank) <= max_bars
        check_bars(view, max_bars)


def test_slices_that_stay_single_all_at_once_are_not_too_many_bars() -> None:
    """A hundred of 10 s, with ten short ones before each: narrower columns than 10 s would make two hundred bars."""
    timeline = made([([(0.0, 0.01, 0)] * 10 + [(0.0, 10.0, 1)]) * 100])
    view = timeline_view(timeline, max_bars=150)
    check_bars(view, 150)
    assert 90 <= len(view.rank) <= 101
    check_bars(timeline_view(timeline, max_bars=210), 210)


def test_a_timeline_answers_for_a_window_cut_through_its_slices() -> None:
    timeline = made([[(0.0, 4.0, 0), (0.0, 2.0, 1)]])
    assert timeline.by_category(0, 0, 3.0, 4.5) == pytest.approx(
        {"gemm": 2 / 3, "attention": 1 / 3, "expert_gemm": 0.5}
    )


@pytest.mark.parametrize(
    ("window", "options", "words"),
    [
        ((2.0, 2.0), {}, "is empty"),
        ((0.0, 1.0), {"ranks": (1,)}, "there are 1 ranks"),
        ((0.0, 1.0), {"streams": (NUM_STREAMS,)}, "there are 1 ranks"),
        ((0.0, 1.0), {"max_bars": GROUPS - 1}, f"at least {GROUPS}"),
    ],
)
def test_what_no_picture_can_show_is_refused(window: tuple[float, float], options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        timeline_view(made([[(0.0, 4.0, 0)]]), *window, **options)


def test_many_ranks_are_a_selection_with_the_edges_and_the_middle() -> None:
    timeline = made([row_ for _ in range(200) for row_ in ([(0.0, 1.0, 0)], [(0.0, 1.0, 2)], [(0.0, 1.0, 2)])], 200)
    shown = timeline.shown_ranks(64)
    assert len(shown) <= 64
    assert {0, 100, 199} <= set(shown)
    assert timeline.shown_ranks(200) == tuple(range(200))
