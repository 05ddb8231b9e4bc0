"""How right?: Predicted figures beside published and measured ones, with their intervals, and what this scenario rests on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import streamlit as st

from dashboards import state
from dashboards.source import Source
from dashboards.widgets.answering import answered, refine
from dashboards.widgets.figure import figure, mode
from dashboards.widgets.metrics import Metric, metrics
from dashboards.widgets.problems import as_text, show_problems
from dashboards.widgets.table import table
from simulator.report import numbers
from simulator.report.accuracy import (
    UNIT_OF_NAME,
    AccuracyRow,
    accuracy_of,
    chosen,
    measured_families,
    measured_gpus,
    nearest,
    read_accuracy,
    speeds,
    units_of,
    worst,
)
from simulator.report.accuracy_text import headline, like_words
from simulator.report.figures import accuracy as figures
from simulator.report.figures import basis
from simulator.report.frames.accuracy import shown_frame
from simulator.scenario.hardware import node_of
from simulator.scenario.scenario import Scenario

GPUS, FAMILIES, GROUP, UNIT = "accuracy-gpus", "accuracy-families", "accuracy-group", "accuracy-unit"
GROUPS: Final = {"published": "Published tables", "case": "Case files", "all": "All"}
USUAL_GROUP: Final = "published"
NUM_ROWS: Final = 10
BIAS: Final = "Above 0: predicted too fast. What is not modelled is lost time."
COLUMNS: Final[dict[str, Any]] = {
    "source": st.column_config.TextColumn(width="large"),
    "note": st.column_config.TextColumn(width="large"),
}


def show() -> None:
    """Lay the page out."""
    st.title("How right?")
    rows = speeds(read_accuracy())
    found = _choose(rows)
    if found:
        _headline(found)
        _pictures(found)
        _worst(found)
    else:
        st.info("No measured run is of these GPUs and these models: take a choice away.", icon="🎯")
    _totals()
    asked = state.current()
    st.subheader("This scenario")
    if asked.scenario is None:
        show_problems(asked.problems)
        return
    _this(asked.source, asked.scenario, rows)


def _choose(rows: Sequence[AccuracyRow]) -> tuple[AccuracyRow, ...]:
    """The rows of the GPUs, families of models and group that the link asks for."""
    left, middle, right = st.columns([3, 3, 3])
    gpus, families = _several("on"), _several("families")
    st.session_state[GPUS], st.session_state[FAMILIES] = gpus, families
    group = state.page("group") or USUAL_GROUP
    st.session_state[GROUP] = group
    left.multiselect("GPUs", measured_gpus(), key=GPUS, placeholder="all", on_change=_keep, args=("on", GPUS))
    middle.multiselect(
        "Families of models", measured_families(), key=FAMILIES, placeholder="all", on_change=_keep, args=("families", FAMILIES)
    )  # fmt: skip
    right.segmented_control(
        "Runs", list(GROUPS), key=GROUP, format_func=GROUPS.__getitem__, on_change=_keep_group
    )  # fmt: skip
    return chosen(rows, gpus, families, group)  # type: ignore[arg-type]


def _several(name: str) -> list[str]:
    text = state.page(name)
    return text.split(",") if text else []


def _keep(name: str, key: str) -> None:
    state.set_page(**{name: ",".join(st.session_state[key]) or None})


def _keep_group() -> None:
    group = st.session_state[GROUP]
    state.set_page(group=None if group in (None, USUAL_GROUP) else group)


def _headline(rows: Sequence[AccuracyRow]) -> None:
    """How far off, and how far to trust the interval, in words and in figures."""
    found = accuracy_of(rows)
    assert found is not None
    size, trust = headline(found)
    st.markdown(f"{as_text(size)} **{as_text(trust)}**")
    metrics(
        [
            Metric("Measured runs", numbers.whole(found.n)),
            Metric("Mean error of the speed", numbers.percent(found.mape)),
            Metric("Half are within", numbers.percent(found.median)),
            Metric("Bias", numbers.signed_percent(found.bias), help=BIAS),
            Metric("Inside the 90 % interval", numbers.percent(found.coverage)),
        ]
    )  # fmt: skip


def _pictures(rows: Sequence[AccuracyRow]) -> None:
    left, right = st.columns(2)
    with left:
        st.subheader("Predicted against measured")
        unit = _choose_unit(rows)
        own = [row for row in rows if row.unit == unit]
        figure(figures.scatter_figure(own, mode()), figures.scatter_alt(own), "accuracy-scatter")
    with right:
        st.subheader("Errors by GPU")
        st.caption("Each point is a run; the box holds the middle half, its line is the median. Dotted: ±10 %.")
        figure(figures.errors_figure(rows, mode()), figures.errors_alt(rows), "accuracy-errors")


def _choose_unit(rows: Sequence[AccuracyRow]) -> str:
    """The unit of the scatter's axes: as the link says, else that of the most runs."""
    counts = units_of(rows)
    names = [name for name, unit in UNIT_OF_NAME.items() if unit in counts]
    asked = state.page("unit")
    usual = next(name for name, unit in UNIT_OF_NAME.items() if unit == next(iter(counts)))
    name = asked if asked in names else usual
    st.session_state[UNIT] = name
    st.segmented_control(
        "Speed as", names, key=UNIT, label_visibility="collapsed",
        format_func=lambda each: f"{UNIT_OF_NAME[each]} ({counts.get(UNIT_OF_NAME[each], 0)})",
        on_change=lambda: state.set_page(unit=st.session_state[UNIT]),
    )  # fmt: skip
    return UNIT_OF_NAME[name]


def _worst(rows: Sequence[AccuracyRow]) -> None:
    found = worst(rows, NUM_ROWS)
    st.subheader(f"The {len(found)} farthest off" if len(found) > 1 else "The run")
    table(shown_frame(found, with_note=True), "accuracy-worst", COLUMNS)


def _totals() -> None:
    """What published totals contain and what not."""
    rows = [row for row in read_accuracy() if row.note and row.group == "case"]
    if rows:
        with st.expander("What published totals contain, and what not"):
            for note in dict.fromkeys(row.note for row in rows):
                st.markdown(f"- {as_text(note)}")
            table(shown_frame(rows), "accuracy-totals", COLUMNS)


def _this(source: Source, scenario: Scenario, rows: Sequence[AccuracyRow]) -> None:
    """Which share of the scenario rests on what, and the measured runs that are most like it."""
    st.caption(f"{as_text(scenario.name)}, on the stack {as_text(scenario.stack)}.")
    answer = answered(source)
    if answer is not None:
        refine([answer], "Simulating the scenario")
    if answer is not None and answer.result is not None:
        found = answer.result.basis
        st.markdown("**Where its seconds come from**")
        figure(basis.basis_figure(found, mode()), basis.alt(found), "accuracy-basis")
        st.caption(as_text(basis.words(found)))
    gpu = node_of(scenario).gpu
    like = nearest(rows, gpu, scenario.model.name, NUM_ROWS)
    st.markdown("**The measured runs that are most like it**")
    if not like:
        st.info(
            "No measured run shares its GPU or its family of models: nothing says how right this prediction is.",
            icon="🎯",
        )
        return
    st.caption(as_text(like_words(rows, gpu, scenario.model.name)))
    table(shown_frame(like, with_stack=True), "accuracy-like", COLUMNS)
