"""How right?: Predicted figures beside published and measured ones, with their intervals."""

from __future__ import annotations

import streamlit as st

from dashboards import state
from dashboards.widgets.problems import as_text, show_problems


def show() -> None:
    """Lay the page out."""
    st.title("How right?")
    asked = state.current()
    if asked.scenario is None:
        show_problems(asked.problems)
        return
    st.write("Predicted figures beside published and measured ones, with their intervals.")
    st.caption(f"Of the scenario {as_text(asked.scenario.name)}.")
