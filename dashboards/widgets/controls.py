"""Controls that set keys of the scenario: each shows what the scenario says now, whatever set it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import streamlit as st

from dashboards import controls
from dashboards.controls import Control
from dashboards.keys import text_of
from dashboards.source import Source
from simulator import choices
from simulator.scenario.host import WHOLE
from simulator.scenario.plan import LoadImbalance
from simulator.scenario.scenario import Scenario

GIVEN: Final = "given imbalance"
"""The choice of a balance that is a number."""
USUAL_IMBALANCE: Final = 1.2
NONE, FULL = WHOLE


def key_of(name: str) -> str:
    """The widget's key."""
    return f"set-{name}"


def show_group(group: Sequence[Control], scenario: Scenario, source: Source) -> None:
    """The controls of a group that have a meaning here, two side by side where they are narrow."""
    for row in _rows([control for control in group if control.shows(scenario)]):
        for column, control in zip(st.columns(1 if row[0].is_wide else 2), row, strict=False):
            with column:
                show(control, scenario, source)


def _rows(group: Sequence[Control]) -> list[list[Control]]:
    rows: list[list[Control]] = []
    for control in group:
        if control.is_wide or not rows or len(rows[-1]) == 2 or rows[-1][0].is_wide:
            rows.append([control])
        else:
            rows[-1].append(control)
    return rows


def show(control: Control, scenario: Scenario, source: Source) -> None:
    """One control."""
    now = controls.value(control.name, scenario, source)
    if control.kind == "switch":
        _switch(control, now)
    elif control.kind == "choice":
        _choice(control, now, source)
    elif control.kind == "several":
        _several(control, now, source)
    elif control.kind == "balance":
        _balance(control, now)
    elif control.kind == "graphs":
        _graphs(control, now)
    elif control.kind == "share":
        _share(control, now)
    else:
        _number(control, now, source)


def _choice(control: Control, now: Any, source: Source) -> None:
    options = [text_of(each) for each in choices.choices(controls.path(control.name, source))]
    key, text = key_of(control.name), text_of(now if isinstance(now, str | int | None) else now.name)
    st.session_state[key] = text
    st.selectbox(
        control.label, options if text in options else [text, *options], key=key, help=control.help, on_change=_chosen,
        args=(control.name,),
    )  # fmt: skip


def _switch(control: Control, now: bool) -> None:
    key = key_of(control.name)
    st.session_state[key] = now
    st.toggle(control.label, key=key, help=control.help, on_change=_chosen, args=(control.name,))


def _several(control: Control, now: Sequence[str], source: Source) -> None:
    key = key_of(control.name)
    st.session_state[key] = list(now)
    options = [text_of(each) for each in choices.choices(controls.path(control.name, source))]
    st.multiselect(control.label, options, key=key, help=control.help, on_change=_chosen, args=(control.name,))


def _graphs(control: Control, now: str | Sequence[str]) -> None:
    key = key_of(control.name)
    st.session_state[key] = [each for each in ([now] if isinstance(now, str) else now) if each != NONE]
    options = [FULL, *map(text_of, choices.choices(control.path))]
    st.multiselect(
        control.label, options, key=key, help=control.help, on_change=_chosen_graphs, args=(control.name,),
        placeholder="none",
    )  # fmt: skip


def _share(control: Control, now: float) -> None:
    key = key_of(control.name)
    st.session_state[key] = float(now)
    st.number_input(
        control.label, 0.0, 1.0, step=0.25, key=key, help=control.help, on_change=_chosen, args=(control.name,)
    )


def _number(control: Control, now: float | None, source: Source) -> None:
    key = key_of(control.name)
    low, high = choices.bounds(controls.path(control.name, source))
    st.session_state[key] = None if now is None else round(now)
    st.number_input(
        control.label, int(low or 1), int(high or 1), value=None if control.blank else "min", step=1, key=key,
        help=control.help, on_change=_chosen, args=(control.name,), placeholder=control.blank or None,
    )  # fmt: skip


def _balance(control: Control, now: str | LoadImbalance) -> None:
    key, number = key_of(control.name), key_of("imbalance")
    is_given = isinstance(now, LoadImbalance)
    st.session_state[key] = GIVEN if isinstance(now, LoadImbalance) else now
    options = [*map(text_of, choices.choices(control.path)), GIVEN]
    st.selectbox(control.label, options, key=key, help=control.help, on_change=_chosen_balance, args=(control.name,))
    if is_given:
        assert isinstance(now, LoadImbalance)
        st.session_state[number] = now.load_imbalance
        st.number_input(
            "Maximum over mean", 1.0, 1_000.0, step=0.05, key=number, on_change=_chosen_balance, args=(control.name,),
            help="Tokens of the fullest GPU of an expert group over the mean of its GPUs.",
        )  # fmt: skip


def _chosen(name: str) -> None:
    """A control was moved; an empty number is null."""
    controls.choose(name, text_of(st.session_state[key_of(name)]))


def _chosen_graphs(name: str) -> None:
    controls.choose(name, text_of(controls.graphs_of(st.session_state[key_of(name)])))


def _chosen_balance(name: str) -> None:
    kind = st.session_state[key_of(name)]
    if kind == GIVEN:
        given = st.session_state.get(key_of("imbalance"), USUAL_IMBALANCE)
        kind = text_of(LoadImbalance(load_imbalance=float(given)))
    controls.choose(name, kind)
