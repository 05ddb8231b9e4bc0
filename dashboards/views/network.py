"""Network: How the GPUs are wired, and which links carry what."""

from __future__ import annotations

import streamlit as st

from dashboards import state
from dashboards.widgets.problems import as_text, show_problems


def show() -> None:
    """Lay the page out."""
    st.title("Network")
    asked = state.current()
    if asked.scenario is None:
        show_problems(asked.problems)
        return
    st.write("How the GPUs are wired, and which links carry what.")
    st.caption(f"Of the scenario {as_text(asked.scenario.name)}.")
