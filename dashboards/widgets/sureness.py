"""How sure the whole run is: its phases with their intervals, and what moves the total."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from dashboards.widgets.figure import figure, mode
from dashboards.widgets.problems import as_text
from dashboards.widgets.table import table
from simulator.report import phase_section, phase_words
from simulator.report.figures import tornado as figures
from simulator.report.frames import cost as frames
from simulator.results.run_result import RunResult


def show(result: RunResult, *, is_first: bool) -> None:
    """Phases where there are several, and the tornado. is_first: a first answer, whose intervals follow."""
    if len(result.phases) > 1:
        _show_phases(result)
    st.subheader("How sure?")
    moving = frames.ranges_shown(result)
    if is_first or not moving:
        st.caption("Follows with all draws." if is_first else "Nothing is uncertain here that moves the GPU-hours.")
        return
    figure(figures.tornado(result, mode()), figures.tornado_alt(result), "what-if-tornado")
    with st.expander("What narrows each"):
        columns = ["What moves the GPU-hours", "at its low end", "at its high end", "What narrows it"]
        widths = {
            columns[0]: st.column_config.TextColumn(width=260),
            columns[3]: st.column_config.TextColumn(width="large"),
        }
        table(pd.DataFrame(moving, columns=columns), "what-if-ranges", widths)


def _show_phases(result: RunResult) -> None:
    """A row a phase, and below what each trains where it differs."""
    st.subheader("Phases")
    labels, rows = phase_section.table(result)
    table(pd.DataFrame(rows, columns=["phase", *labels[1:]]), "what-if-phases")
    for phase in result.phases:
        for line in phase_words.lines(phase):
            st.caption(as_text(line.strip()))
