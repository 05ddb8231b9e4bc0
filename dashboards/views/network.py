"""Network: How the GPUs are wired, and which links carry what in a step."""

from __future__ import annotations

from typing import Final

import streamlit as st

from dashboards import jobs, state
from dashboards.answers import FIRST_DRAWS
from dashboards.widgets.asked import asked_under
from dashboards.widgets.figure import figure, mode
from dashboards.widgets.problems import as_text
from dashboards.widgets.table import table
from dashboards.widgets.waiting import value_of
from dashboards.work import network as work
from simulator.report.figures.network import alt, network_figure
from simulator.report.frames.network import collectives_shown, links_shown
from simulator.report.network_words import (
    TRAFFIC_WORDS,
    counted_as,
    hottest_sentence,
    place_sentence,
    traffics_of,
)
from simulator.results.network_view import NetworkView, Traffic
from simulator.run.step_key import step_document
from simulator.scenario.scenario import Scenario

ALL: Final = "all"


def show() -> None:
    """Lay the page out."""
    asked = asked_under("Network")
    if asked is None:
        return
    _, scenario = asked
    st.caption(f"How the GPUs of {as_text(scenario.name)} are wired, and what a step puts on each link.")
    found = _answer(scenario)
    if found is None:
        return
    traffic = _choose(found.view)
    st.markdown(f"**{as_text(hottest_sentence(found.view, traffic))}**")
    figure(network_figure(found.view, mode(), traffic), alt(found.view, traffic), key="network-picture")
    st.caption("\n\n".join(map(as_text, (place_sentence(found.view), *found.view.notes))))
    st.subheader("Links")
    table(links_shown(found.view), key="network-links")
    st.caption(
        "In one direction: as much comes back on the other. Share: of what the fullest link of a kind could carry in the step. "
        "The last columns say what its load is."
    )
    st.subheader("Collectives, each alone")
    table(collectives_shown(found.collectives), key="network-collectives")
    st.caption(as_text(f"GB/s as they are compared: {counted_as(found.collectives)}"))


def _answer(scenario: Scenario) -> work.Network | None:
    """From all draws where they are simulated already, else from few, while the others are on their way."""
    document, draws = step_document(scenario), scenario.draws
    whole = jobs.of(work.network, document, draws, later=draws > FIRST_DRAWS)
    if whole.state == "done" or draws <= FIRST_DRAWS:
        found: work.Network | None = value_of(whole, "Simulating the step")
        return found
    first: work.Network | None = value_of(jobs.of(work.network, document, FIRST_DRAWS), "Simulating the step")
    if first is None:
        return None
    return value_of(whole, f"First answer from {first.draws} of {draws} draws, refining") or first


def _choose(view: NetworkView) -> Traffic | None:
    """Which kind of traffic the picture tells of; None: all."""
    there = traffics_of(view)
    names = [ALL, *there]
    asked = state.page("show")
    chosen = st.radio(
        "Traffic",
        names,
        index=names.index(asked) if asked in names else 0,
        format_func=lambda name: "all together" if name == ALL else TRAFFIC_WORDS[name],
        horizontal=True,
        key=f"network-traffic-{'-'.join(there)}",
        on_change=_keep,
        args=(f"network-traffic-{'-'.join(there)}",),
    )
    return next((traffic for traffic in there if traffic == chosen), None)


def _keep(key: str) -> None:
    chosen = st.session_state[key]
    state.set_page(show=None if chosen == ALL else chosen)
