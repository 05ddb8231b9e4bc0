"""A step's timeline as bars: pipeline ranks × streams over time, what is lost in colours of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from simulator.report import numbers
from simulator.report.figures.look import mixed, themed
from simulator.report.theme import CATEGORY, PAGES, Mode
from simulator.report.timeline_words import SHORT_STREAMS, alt, category_words, hovers
from simulator.results.timeline import BUBBLE, COMPUTE, END_WAIT, EXPOSED, HOST_WAIT, NUM_STREAMS, StepTimeline
from simulator.results.timeline_view import TimelineView, timeline_view

__all__ = ["alt", "overview", "timeline_figure"]

OVERVIEW_BARS: Final = 1500
"""Bars of a picture inside a report."""
MAX_RANKS: Final = 64
"""Ranks of a picture that chooses them itself."""
MAIN_SHARE: Final = 0.01
"""Of the step, that a stream is busy on some rank at least, to be in a picture that chooses its streams itself."""
HEIGHT_OF: Final = tuple(1.0 if stream == COMPUTE else 0.6 for stream in range(NUM_STREAMS))
"""Lanes of the streams, in lanes of a compute stream."""
GAP: Final = 0.35
LABEL_ROOM: Final = 0.75
"""Above a rank, for the names of its actions."""
LANE_PIXELS: Final = (12, 30)
MAX_PIXELS: Final = 800
"""Of one timeline, where its lanes do not need more."""
MAX_LABELS: Final = 240
LABEL_SHARE: Final = 0.022
"""Of the window, that an action must be long to be named."""
PANEL_GAP: Final = 2.0
"""Between two timelines, with the second one's name."""
LEAST_THICKNESS: Final = 0.12
"""Of a lane, of a bar whose stream waits most of the time."""


def overview(timeline: StepTimeline, mode: Mode = "light", *, max_bars: int = OVERVIEW_BARS) -> go.Figure:
    """The whole step, for a report."""
    return timeline_figure(overview_of(timeline, max_bars), mode)


def overview_of(timeline: StepTimeline, max_bars: int = OVERVIEW_BARS) -> TimelineView:
    """The view that `overview` draws: at most MAX_RANKS ranks, and streams that are worth a lane."""
    return timeline_view(
        timeline, max_bars=max_bars, ranks=timeline.shown_ranks(MAX_RANKS), streams=main_streams(timeline)
    )


def main_streams(timeline: StepTimeline) -> tuple[int, ...]:
    """The compute stream, and those that are busy for more than a sliver of the step."""
    busy = np.bincount(timeline.stream_of, timeline.end_s - timeline.start_s, timeline.num_ranks * NUM_STREAMS)
    most = busy.reshape(-1, NUM_STREAMS).max(axis=0)
    return tuple(s for s in range(NUM_STREAMS) if s == COMPUTE or most[s] > MAIN_SHARE * timeline.step_s)


def timeline_figure(
    view: TimelineView, mode: Mode = "light", *, below: TimelineView | None = None, selects: bool = False
) -> go.Figure:
    """The bars of a view; below: of a second timeline in the same window. selects: dragging selects a window, else it zooms.

    The time axis is in seconds, ms or µs, as `axis_unit` says.
    """
    figure = go.Figure()
    start_s, end_s = view.start_s, max(view.end_s, view.end_s if below is None else below.end_s)
    size, unit = axis_unit(start_s, end_s)
    panels = [_Panel.of(view, 0.0 if below is None else 1.2)]
    if below is not None:
        panels.append(_Panel.of(below, panels[0].bottom + PANEL_GAP))
    for name in _categories([panel.view for panel in panels]):
        _add_bars(figure, panels, name, mode, size)
    for panel in panels:
        _add_names(figure, panel, mode, size)
    bottom = panels[-1].bottom
    pixels = min(max(LANE_PIXELS[0], MAX_PIXELS * len(panels) / max(1.0, bottom)), LANE_PIXELS[1])
    themed(figure, mode, height=round(bottom * pixels) + 120)
    figure.update_layout(
        barmode="overlay", bargap=0, dragmode="select" if selects else "zoom", selectdirection="h",
        margin={"t": 10, "b": 40},
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0, "traceorder": "normal", "itemclick": False,
                "itemdoubleclick": False},
    )  # fmt: skip
    figure.update_xaxes(
        title_text=f"time in the step ({unit})", range=[start_s / size, end_s / size], tickformat=",~f", zeroline=False
    )
    figure.update_yaxes(
        tickvals=[at for panel in panels for at in panel.middles], ticktext=[each for panel in panels for each in panel.names],
        tickfont={"size": min(11, max(8, int(pixels * min(HEIGHT_OF))))},
        range=[bottom + 0.2, -0.2], showgrid=False, zeroline=False, fixedrange=True,
    )  # fmt: skip
    if below is not None:
        for panel in panels:
            _add_title(figure, panel, mode, start_s / size)
    return figure


def axis_unit(start_s: float, end_s: float) -> tuple[float, str]:
    """Size in seconds, and name, of the unit of a time axis over a window."""
    return numbers.time_unit(end_s - start_s)


def _add_title(figure: go.Figure, panel: _Panel, mode: Mode, left: float) -> None:
    """The schedule's name above its ranks."""
    timeline = panel.view.timeline
    figure.add_annotation(
        x=left, y=panel.top, xanchor="left", yanchor="bottom", showarrow=False,
        text=f"<b>{timeline.schedule}</b>, {numbers.step_time(timeline.step_s)}", font={"color": PAGES[mode].text, "size": 13},
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Panel:
    """Where the lanes of a view stand, from the top down. hovers: of the bars; named: actions, as in `_named_actions`.

    top: of the first lane; tops, heights, names: of each; bottom: of the last.
    """

    view: TimelineView
    hovers: tuple[str, ...]
    named: tuple[tuple[int, float, float, str], ...]
    top: float
    tops: NDArray[np.float64]
    heights: NDArray[np.float64]
    names: tuple[str, ...]
    bottom: float

    @classmethod
    def of(cls, view: TimelineView, top: float) -> _Panel:
        named = tuple(_named_actions(view))
        at = top
        tops, heights, names = [], [], []
        for rank in view.ranks:
            at += LABEL_ROOM if named else 0.0
            for place, stream in enumerate(view.streams):
                tops.append(at)
                heights.append(HEIGHT_OF[stream])
                names.append(f"rank {rank}" if place == 0 else SHORT_STREAMS[stream])
                at += HEIGHT_OF[stream]
            at += GAP
        return cls(view, tuple(hovers(view)), named, top, np.array(tops), np.array(heights), tuple(names), at)

    @property
    def middles(self) -> list[float]:
        """Of the lanes."""
        return [top + height / 2 for top, height in zip(self.tops.tolist(), self.heights.tolist(), strict=True)]

    def lane_of(self, rank: NDArray[np.int64], stream: NDArray[np.int64]) -> NDArray[np.int64]:
        """(bars,): the lane of each bar."""
        view = self.view
        rows, columns = np.searchsorted(view.ranks, rank), np.searchsorted(view.streams, stream)
        return np.asarray(rows * len(view.streams) + columns, dtype=np.int64)


def _categories(views: Sequence[TimelineView]) -> list[str]:
    """What the bars are coloured by, in the order of the theme, idle time last."""
    found = {view.timeline.categories[c] for view in views for c in np.unique(view.category).tolist()}
    order = [*CATEGORY, HOST_WAIT, END_WAIT]
    return sorted(
        found,
        key=lambda name: (
            name in (BUBBLE, EXPOSED, HOST_WAIT, END_WAIT),
            order.index(name) if name in order else 99,
            name,
        ),
    )


def _add_bars(figure: go.Figure, panels: Sequence[_Panel], name: str, mode: Mode, size: float) -> None:
    """The bars of a category in all panels, as one trace."""
    parts = []
    for panel in panels:
        view = panel.view
        names = np.array(view.timeline.categories)
        chosen = np.flatnonzero(names[view.category] == name)
        lane = panel.lane_of(view.rank[chosen], view.stream[chosen])
        length = view.bar_end_s[chosen] - view.bar_start_s[chosen]
        alone = (view.low[chosen] == 0.0) & (view.stream[chosen] != COMPUTE)
        low, high = view.low[chosen], np.where(alone, view.high[chosen].clip(LEAST_THICKNESS, 1.0), view.high[chosen])
        thickness = panel.heights[lane] * (high - low)
        middle = panel.tops[lane] + panel.heights[lane] * (1.0 - (low + high) / 2)
        texts = [panel.hovers[i] for i in chosen.tolist()]
        parts.append((view.bar_start_s[chosen], length, middle, thickness, texts))
    start, length, middle, thickness = (np.concatenate([part[i] for part in parts]) for i in range(4))
    figure.add_trace(
        go.Bar(
            base=start / size, x=length / size, y=middle, width=thickness, orientation="h", name=category_words(name),
            hovertext=[text for part in parts for text in part[4]], hoverinfo="text",
            marker={"color": colour_of(name, mode), "line": {"width": 0}}, legendgroup=name,
            selected={"marker": {"opacity": 1}}, unselected={"marker": {"opacity": 1}},
        )
    )  # fmt: skip


def colour_of(category: str, mode: Mode) -> str:
    """The theme's colour; a bubble recedes into a dark page, and waits at the step's end are a paler exposed."""
    if category == HOST_WAIT:
        return CATEGORY["host"]
    if category == END_WAIT:
        return mixed(CATEGORY[EXPOSED], PAGES[mode].background, 0.5)
    if category == BUBBLE and mode == "dark":
        return mixed(CATEGORY[BUBBLE], PAGES[mode].background, 0.72)
    return CATEGORY.get(category, CATEGORY["other"])


def _named_actions(view: TimelineView) -> list[tuple[int, float, float, str]]:
    """(rank, start, end, name) of the actions that are long enough in the window to be named."""
    timeline, found = view.timeline, []
    least = LABEL_SHARE * (view.end_s - view.start_s)
    for rank in view.ranks:
        here = timeline.slices(rank, COMPUTE, view.start_s, view.end_s)
        bubble = np.array([each.category == BUBBLE for each in timeline.classes])[timeline.op_class[here]]
        action = np.where(bubble, -1, timeline.action[here])
        cuts = np.flatnonzero(np.diff(action)) + 1
        for first, last in zip([0, *cuts.tolist()], [*cuts.tolist(), len(action)], strict=True):
            if last <= first or action[first] < 0:
                continue
            start = max(float(timeline.start_s[here][first]), view.start_s)
            end = min(float(timeline.end_s[here][last - 1]), view.end_s)
            name = timeline.action_names[int(action[first])]
            if end - start >= least * max(1.0, len(name) / 4):
                found.append((rank, start, end, name))
    return found if len(found) <= MAX_LABELS else []


def _add_names(figure: go.Figure, panel: _Panel, mode: Mode, size: float) -> None:
    """The names of the actions above the compute lanes of their ranks."""
    named = panel.named
    if not named:
        return
    first = {rank: panel.tops[i * len(panel.view.streams)] for i, rank in enumerate(panel.view.ranks)}
    figure.add_trace(
        go.Scatter(
            x=[(start + end) / 2 / size for _, start, end, _ in named],
            y=[first[rank] - LABEL_ROOM / 2 for rank, *_ in named],
            text=[name for *_, name in named],
            mode="text", textfont={"size": 11, "color": PAGES[mode].muted}, showlegend=False, hoverinfo="skip",
        )
    )  # fmt: skip
