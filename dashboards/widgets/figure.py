"""A plotly figure with its text alternative, in the page's theme."""

from __future__ import annotations

from typing import Any

import streamlit as st

from simulator.report.theme import Mode


def mode() -> Mode:
    """The theme that the browser shows, for the functions of simulator/report/figures."""
    return "dark" if st.context.theme.type == "dark" else "light"


def figure(fig: Any, alt: str, key: str, **options: Any) -> Any:
    """Show a figure of simulator/report/figures; `alt` is read to those who do not see it.

    options: as of st.plotly_chart (on_select, selection_mode, height); returns what it returns.
    """
    shown = {"displaylogo": False, "scrollZoom": False, **options.pop("config", {})}
    return st.plotly_chart(fig, width="stretch", theme=None, key=key, alt=alt, config=shown, **options)
