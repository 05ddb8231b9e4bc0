"""Memory: What fills a GPU of each pipeline stage, against what it has."""

from __future__ import annotations

import streamlit as st

from dashboards import state
from dashboards.widgets.problems import as_text, show_problems


def show() -> None:
    """Lay the page out."""
    st.title("Memory")
    asked = state.current()
    if asked.scenario is None:
        show_problems(asked.problems)
        return
    st.write("What fills a GPU of each pipeline stage, against what it has.")
    st.caption(f"Of the scenario {as_text(asked.scenario.name)}.")
