"""Timeline: What every pipeline rank does in each moment of a step, as a Gantt chart of ranks and streams."""

from __future__ import annotations

import streamlit as st

from dashboards import state
from dashboards.widgets.problems import as_text, show_problems


def show() -> None:
    """Lay the page out."""
    st.title("Timeline")
    asked = state.current()
    if asked.scenario is None:
        show_problems(asked.problems)
        return
    st.write("What every pipeline rank does in each moment of a step, as a Gantt chart of ranks and streams.")
    st.caption(f"Of the scenario {as_text(asked.scenario.name)}.")
