"""Headline figures side by side, of equal height."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import streamlit as st

from dashboards.widgets.problems import as_text


@dataclass(frozen=True, slots=True)
class Metric:
    """One headline figure. All texts come from simulator/report/numbers.py.

    delta: difference to what is pinned, "" where nothing is. better: which direction of `delta` is good news.
    """

    label: str
    value: str
    delta: str = ""
    better: Literal["lower", "higher", "neither"] = "neither"
    help: str = ""


def metrics(row: Sequence[Metric]) -> None:
    """Show figures in one row."""
    colours: dict[str, Literal["inverse", "normal", "off"]] = {"lower": "inverse", "higher": "normal", "neither": "off"}
    for column, each in zip(st.columns(len(row)), row, strict=True):
        column.metric(
            as_text(each.label),
            as_text(each.value),
            delta=_signed(each.delta) or None,
            delta_color=colours[each.better],
            help=as_text(each.help) or None,
            border=True,
            height="stretch",
        )


def _signed(delta: str) -> str:
    """A difference as text; its sign stays bare, since Streamlit reads the arrow's direction from it."""
    return delta[:1] + as_text(delta[1:]) if delta.startswith(("-", "+")) else as_text(delta)
