"""Which piece of the step is shown: a slider, buttons, a box drawn in the picture; kept in the link."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import streamlit as st

from dashboards import state

SLIDER: Final = "timeline-window"
STEPS: Final = 1000
"""Positions of the slider."""
SHORTEST: Final = 1e-6
"""Of the step, that a window is long at least."""


@dataclass(frozen=True, slots=True)
class Window:
    """start_s < end_s, seconds from the start of the step, which is whole_s long."""

    start_s: float
    end_s: float
    whole_s: float

    @property
    def is_whole(self) -> bool:
        return self.start_s <= 0.0 and self.end_s >= self.whole_s

    def moved(self, by: float) -> Window:
        """By so many of its lengths, inside the step."""
        length = self.end_s - self.start_s
        start = min(max(self.start_s + by * length, 0.0), self.whole_s - length)
        return Window(start, start + length, self.whole_s)

    def widened(self, factor: float) -> Window:
        """About its middle, inside the step."""
        middle, half = (self.start_s + self.end_s) / 2, (self.end_s - self.start_s) / 2 * factor
        return Window(max(0.0, middle - half), min(self.whole_s, middle + half), self.whole_s)


def asked_window(whole_s: float) -> Window:
    """The window of the link, in a step of so many seconds."""
    return window_of(state.page("from"), state.page("to"), whole_s)


def window_of(start: str | None, end: str | None, whole_s: float) -> Window:
    """The window between two numbers of a link, which may miss; the whole step where it is none, or beside the step."""
    start_s = 0.0 if start is None else float(start)
    end_s = whole_s if end is None else min(float(end), whole_s)
    if end_s - start_s < SHORTEST * whole_s:
        return Window(0.0, whole_s, whole_s)
    return Window(start_s, end_s, whole_s)


def show_window(window: Window) -> None:
    """The slider and the buttons."""
    st.session_state[SLIDER] = (window.start_s, window.end_s)
    slider, *buttons = st.columns([6, 1, 1, 1, 1.2], vertical_alignment="bottom")
    slider.slider(
        "Window of the step (or drag a box in the picture)",
        min_value=0.0,
        max_value=window.whole_s,
        step=window.whole_s / STEPS,
        format="%.3f s",
        key=SLIDER,
        on_change=_slid,
        args=(window.whole_s,),
    )
    for column, (label, words, to) in zip(
        buttons,
        (
            ("◀ Earlier", "half a window earlier", window.moved(-0.5)),
            ("Later ▶", "half a window later", window.moved(0.5)),
            ("Wider", "twice as long", window.widened(2.0)),
            ("Whole step", "everything", Window(0.0, window.whole_s, window.whole_s)),
        ),
        strict=True,
    ):
        column.button(
            label,
            help=words,
            on_click=keep,
            args=(to,),
            disabled=window.is_whole,
            width="stretch",
            key=f"window-{label}",
        )


def keep(window: Window) -> None:
    """Put a window into the link."""
    if window.is_whole:
        state.set_page(**{"from": None, "to": None})
    else:
        state.set_page(**{"from": f"{max(window.start_s, 0.0):.9f}", "to": f"{window.end_s:.9f}"})


def _slid(whole_s: float) -> None:
    start, end = st.session_state[SLIDER]
    if end > start:
        keep(Window(start, end, whole_s))


def boxed(key: str, unit_s: float, whole_s: float) -> None:
    """A box was drawn in the figure of this key, whose time axis has a unit of so many seconds."""
    event: Any = st.session_state.get(key)
    boxes = event.selection.box if event else []
    window = box_window(boxes[0]["x"], unit_s, whole_s) if boxes else None
    if window is not None:
        keep(window)


def box_window(sides: Sequence[Any], unit_s: float, whole_s: float) -> Window | None:
    """The window of a box between two places of a time axis; None where it is hardly wide, or beside the step."""
    first, last = sorted(float(side) * unit_s for side in sides)
    start, end = max(first, 0.0), min(last, whole_s)
    return Window(start, end, whole_s) if end - start >= SHORTEST * whole_s else None
