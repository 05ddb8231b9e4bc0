"""Report: A preview and a download of the report in every format."""

from __future__ import annotations

import streamlit as st

from dashboards import state
from dashboards.widgets.problems import as_text, show_problems


def show() -> None:
    """Lay the page out."""
    st.title("Report")
    asked = state.current()
    if asked.scenario is None:
        show_problems(asked.problems)
        return
    st.write("A preview and a download of the report in every format.")
    st.caption(f"Of the scenario {as_text(asked.scenario.name)}.")
