"""How a page about one scenario begins: its title, then what is asked for, or why that cannot be."""

from __future__ import annotations

import streamlit as st

from dashboards import remedied, state
from dashboards.source import Source
from dashboards.widgets.problems import show_problems
from simulator.scenario.scenario import Scenario


def asked_under(title: str) -> tuple[Source, Scenario] | None:
    """What the tab asks for; None where it cannot be, and then the page has said why and where that is mended."""
    st.title(title)
    asked = state.current()
    if asked.scenario is not None:
        return asked.source, asked.scenario
    show_problems(asked.problems)
    if remedied.unfit(asked.source) is not None:
        st.caption("The page What if offers the nearest values that can be.")
    return None
