"""What if: does it fit, how many days, at what cost, and what holds it back: of the scenario and of each change to it."""

from __future__ import annotations

import streamlit as st

from dashboards import state
from dashboards.widgets.problems import as_text, show_problems


def show() -> None:
    """Lay the page out."""
    st.title("What if")
    asked = state.current()
    if asked.scenario is None:
        show_problems(asked.problems)
        return
    st.write(
        "Does it fit, how many days, what does it cost, and what holds it back: of the scenario, and of every change to it."
    )
    st.caption(f"Of the scenario {as_text(asked.scenario.name)}.")
