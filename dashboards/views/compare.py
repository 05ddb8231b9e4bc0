"""Compare: Two or more scenarios or result files beside one another: what was changed, and what changed by it."""

from __future__ import annotations

import streamlit as st

from dashboards import state
from dashboards.widgets.problems import as_text, show_problems


def show() -> None:
    """Lay the page out."""
    st.title("Compare")
    asked = state.current()
    if asked.scenario is None:
        show_problems(asked.problems)
        return
    st.write("Two or more scenarios or result files beside one another: what was changed, and what changed by it.")
    st.caption(f"Of the scenario {as_text(asked.scenario.name)}.")
