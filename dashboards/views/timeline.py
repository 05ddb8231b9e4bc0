"""Timeline: What every pipeline rank does in each moment of a step, as a Gantt chart of ranks and streams."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import streamlit as st

from dashboards import jobs, state
from dashboards.source import Source
from dashboards.widgets.asked import asked_under
from dashboards.widgets.figure import figure, mode
from dashboards.widgets.metrics import Metric, metrics
from dashboards.widgets.problems import as_text, show_problems
from dashboards.widgets.table import table
from dashboards.widgets.waiting import value_of
from dashboards.widgets.window import Window, asked_window, boxed, show_window
from dashboards.work import run
from dashboards.work import timeline as work
from simulator.report.figures import timeline as figures
from simulator.report.frames import timeline as frames
from simulator.report.timeline_words import PARTS_WORDS, draw_words, figures_in_words, rank_words, view_words
from simulator.results.step_result import StepResult
from simulator.results.timeline import STREAMS, StepTimeline, streams_of
from simulator.results.timeline_view import TimelineView, timeline_view
from simulator.run.step_key import step_document
from simulator.scenario.scenario import Scenario
from simulator.schedule.family import SCHEDULES

MAX_BARS: Final = 3000
"""Bars of one timeline: what a browser zooms without a pause."""
MAX_RANKS: Final = 64
SECOND, RANKS, STREAM, RANK = "timeline-second", "timeline-ranks", "timeline-streams", "timeline-rank"
NO_SECOND: Final = "none"
ROW_PIXELS: Final = 35
MAX_ROWS: Final = 16


def show() -> None:
    """Lay the page out."""
    asked = asked_under("Timeline")
    if asked is None:
        return
    source, scenario = asked
    controls = st.columns([1.2, 2.4, 1.8])
    with controls[0]:
        second = _choose_second(scenario)
    other = _under(source, second) if second else None
    job = jobs.of(work.timeline, step_document(scenario))
    if other is not None:
        jobs.of(work.timeline, step_document(other))  # beside the first, not behind it
    timeline = value_of(job, "Simulating one draw of the step")
    if not isinstance(timeline, StepTimeline):
        return
    below = None
    if other is not None:
        words = f"Simulating one draw under {other.parallel.schedule}"
        below = value_of(jobs.of(work.timeline, step_document(other)), words)
    with controls[1]:
        ranks = _choose_ranks(timeline)
    with controls[2]:
        streams = _choose_streams(timeline)
    st.caption(as_text(draw_words(timeline, _mean_step_s(scenario, timeline))))
    timelines = [each for each in (timeline, below) if each is not None]
    _show_figures(timelines)
    window = asked_window(max(each.step_s for each in timelines))
    show_window(window)
    _draw(timelines, window, ranks, streams)
    _tables(timelines, window)


def _choose_second(scenario: Scenario) -> str | None:
    """Another schedule to compare with, from the link and into it."""
    names = [name for name in SCHEDULES.names() if name != scenario.parallel.schedule]
    asked = state.page("second")
    st.session_state[SECOND] = asked if asked in names else NO_SECOND
    st.selectbox(
        "Compare with schedule", [NO_SECOND, *names], key=SECOND,
        on_change=lambda: state.set_page(second=None if st.session_state[SECOND] == NO_SECOND else st.session_state[SECOND]),
    )  # fmt: skip
    return asked if asked in names else None


def _under(source: Source, schedule: str) -> Scenario | None:
    """The scenario under another schedule; None where it cannot run, which is then said."""
    other = work.under(source, schedule)
    if other.problems():
        show_problems(other.problems(), f"{schedule} cannot run this layout")
        return None
    return other.load()


def _mean_step_s(scenario: Scenario, timeline: StepTimeline) -> float | None:
    """The mean of all draws, when it is there; the page of answers asks for the same job."""
    if timeline.num_draws == 1:
        return None
    asked = (step_document(scenario), scenario.training.global_batch_size, scenario.parallel.schedule)
    found = value_of(jobs.of(run.step, *asked, later=True), "Refining: all draws of the step")
    return found.step.step_s if isinstance(found, StepResult) else None


def _choose_ranks(timeline: StepTimeline) -> tuple[int, ...]:
    """The pipeline ranks that are shown: as the link says, else all, or a selection that is named."""
    usual, count = timeline.shown_ranks(MAX_RANKS), timeline.num_ranks
    asked = [rank for rank in _numbers("ranks") if rank < timeline.num_ranks]
    st.session_state[RANKS] = asked
    st.multiselect(
        "Pipeline ranks", range(timeline.num_ranks), key=RANKS, max_selections=MAX_RANKS,
        placeholder=f"all {count}" if len(usual) == count else f"{len(usual)} of {count}",
        format_func=lambda rank: rank_words(timeline, rank), on_change=_keep, args=("ranks", RANKS),
    )  # fmt: skip
    return tuple(asked) or usual


def _choose_streams(timeline: StepTimeline) -> tuple[int, ...]:
    """The streams that are shown, of those that do anything: as the link says, else those that are busy."""
    used = streams_of(timeline, range(timeline.num_ranks))
    asked = [stream for stream in _numbers("streams") if stream in used] or list(figures.main_streams(timeline))
    st.session_state[STREAM] = asked
    st.pills(
        "Streams", used, selection_mode="multi", key=STREAM, format_func=STREAMS.__getitem__,
        on_change=_keep, args=("streams", STREAM),
    )  # fmt: skip
    return tuple(asked)


def _numbers(name: str) -> list[int]:
    text = state.page(name)
    return [int(part) for part in text.split(",")] if text else []


def _keep(name: str, key: str) -> None:
    state.set_page(**{name: ",".join(map(str, sorted(st.session_state[key]))) or None})


def _show_figures(timelines: Sequence[StepTimeline]) -> None:
    """Step, bubble, exposed communication, in flight: one row a schedule, the second with its difference to the first."""
    for timeline, words in zip(timelines, figures_in_words(timelines), strict=True):
        if len(timelines) > 1:
            st.markdown(f"**{as_text(timeline.schedule)}**")
        metrics([Metric(label, value, delta, "lower", help_) for label, value, delta, help_ in words])


def _draw(timelines: Sequence[StepTimeline], window: Window, ranks: tuple[int, ...], streams: tuple[int, ...]) -> None:
    views = [_view(each, window, ranks, streams) for each in timelines]
    upper, below = views[0], views[1] if len(views) > 1 else None
    key = f"timeline-{window.start_s}-{window.end_s}-{ranks}-{streams}-{[each.schedule for each in timelines]}"
    figure(
        figures.timeline_figure(upper, mode(), below=below, selects=True),
        " Below: ".join(figures.alt(view) for view in views),
        key,
        on_select=lambda: boxed(key, figures.axis_unit(window.start_s, window.end_s)[0], window.whole_s),
        selection_mode="box",
        config={"displayModeBar": False},  # its zoom would magnify the bars instead of asking for finer ones
    )
    st.caption(as_text(view_words(upper)))


def _view(timeline: StepTimeline, window: Window, ranks: tuple[int, ...], streams: tuple[int, ...]) -> TimelineView:
    return timeline_view(timeline, window.start_s, window.end_s, MAX_BARS, ranks=ranks, streams=streams)


def _tables(timelines: Sequence[StepTimeline], window: Window) -> None:
    """Parts by rank, and what fills the window on one rank."""
    st.subheader(f"Parts of the step by rank ({frames.unit_of(timelines[0].step_s)})")
    for each in timelines:
        _caption(each, timelines)
        frame = frames.ranks_frame(each)
        _table(frames.in_words(frame, timelines[0].step_s), "parts", each, len(frame))
    st.caption(as_text(PARTS_WORDS))
    length = window.end_s - window.start_s
    st.subheader(f"What fills the window ({frames.unit_of(length)})")
    ranks = range(timelines[0].num_ranks)
    left, _ = st.columns([1, 3])
    rank = left.selectbox("Pipeline rank", ranks, key=RANK, format_func=lambda rank: rank_words(timelines[0], rank))
    for column, each in zip(st.columns(len(timelines)), timelines, strict=True):
        with column:
            _caption(each, timelines)
            frame = frames.window_frame(each, rank or 0, window.start_s, window.end_s)
            _table(frames.in_words(frame, length), "window", each, len(frame))


def _caption(timeline: StepTimeline, timelines: Sequence[StepTimeline]) -> None:
    if len(timelines) > 1:
        st.caption(as_text(timeline.schedule))


def _table(frame: Any, what: str, timeline: StepTimeline, rows: int) -> None:
    height = ROW_PIXELS * (min(rows, MAX_ROWS) + 1) + 3
    table(frame, f"timeline-{what}-{timeline.schedule}", dict(frames.COLUMN_WORDS), height=height)
