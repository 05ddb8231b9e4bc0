"""Plan: How many GPUs, in which layout: the smallest cluster that fits, days and cost of each size, and its plan to load."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import streamlit as st

from dashboards import jobs, state
from dashboards.keys import BY_NAME, text_of
from dashboards.remedied import link_changes, whole_key
from dashboards.source import Source
from dashboards.widgets.asked import asked_under
from dashboards.widgets.figure import figure, mode
from dashboards.widgets.problems import as_text
from dashboards.widgets.table import table
from dashboards.widgets.waiting import value_of
from dashboards.work import plan as work
from simulator.remedies import value_of as value_at
from simulator.report import plan_words
from simulator.report.figures import plan as figures
from simulator.report.frames.plan import sizes_shown
from simulator.results.plan_table import PlanResult, PlanRow

PLANNED: Final = "plan"
"""What the link says where the button was pressed."""
SIZES, DAYS, USD = "plan-sizes", "plan-days", "plan-usd"
LOADED: Final = "plan-loaded"


def show() -> None:
    """Lay the page out."""
    asked = asked_under("Plan")
    if asked is None:
        return
    source, scenario = asked
    st.caption(
        f"On how many GPUs {as_text(scenario.name)} fits, and for each number of them the layout with the shortest step. Every "
        "key but the layout, the micro-batch and the recompute stays as it is asked for."
    )
    _say_loaded()
    _form()
    if state.page("show") != PLANNED:
        st.info("Planning tries thousands of layouts and simulates the best: it takes seconds a size.", icon="🧭")
        return
    days, usd = (None if (text := state.page(name)) is None else float(text) for name in ("max_days", "max_usd"))
    found = value_of(jobs.of(work.plan, source, state.page("sizes"), days, usd, later=True), "Planning")
    if found is not None:
        _show(found, source)


def _form() -> None:
    """What is asked, as the link has it."""
    with st.form("plan-form", border=False):
        sizes, days, usd, button = st.columns([3, 1.5, 1.5, 1], vertical_alignment="bottom")
        sizes.text_input(
            "Numbers of GPUs", state.page("sizes") or "", key=SIZES, max_chars=200, placeholder="the smallest and some above",
            help="A list, 64,128,256, or a range, 64..1024. Empty: from the smallest that fits to twice the scenario's own.",
        )  # fmt: skip
        for column, label, key, name in (
            (days, "Days at most", DAYS, "max_days"),
            (usd, "USD at most", USD, "max_usd"),
        ):
            text = state.page(name)
            column.number_input(
                label, min_value=0.0, value=None if text is None else float(text), key=key, placeholder="any"
            )
        button.form_submit_button("Plan", on_click=_ask, type="primary", width="stretch")


def _ask() -> None:
    """Put what the form says into the link."""
    values: dict[str, str | None] = {"show": PLANNED}
    for name, key in (("sizes", SIZES), ("max_days", DAYS), ("max_usd", USD)):
        value = st.session_state[key]
        text = "" if value is None else str(value).replace(" ", "")
        values[name] = text if text and BY_NAME[name].read(text) is not None else None
    state.set_page(**values)


def _show(result: PlanResult, source: Source) -> None:
    st.subheader(as_text(plan_words.smallest(result)))
    st.markdown(f"Taken: {as_text(plan_words.taken(result))}")
    for note in result.notes:
        st.caption(as_text(note))
    table(sizes_shown(result), "plan-sizes-table")
    _loaders(result, source)
    left, right = st.columns([3, 2])
    with left:
        if figures.has_front(result):
            st.subheader("Days and cost")
            figure(figures.front_figure(result, mode()), figures.front_alt(result), "plan-front")
    with right:
        _why(result)


def _loaders(result: PlanResult, source: Source) -> None:
    """A button a size, which makes its plan what all pages are of."""
    rows = [row for row in result.rows if row.fits and row.keys is not None]
    for column, row in zip(st.columns(len(rows)), rows, strict=True):
        changes = plan_changes(row, source)
        column.button(
            f"Load {row.num_gpus:,} GPUs",
            key=f"plan-load-{source.key[:8]}-{row.num_gpus}",
            on_click=_load,
            args=(row.num_gpus, changes),
            disabled=changes is None,
            help=as_text(row.layout or ""),
            width="stretch",
        )


def plan_changes(row: PlanRow, source: Source) -> dict[str, str] | None:
    """The changes that make a row's plan of a source, by their names in the link; None where the link cannot say it.

    A null is left out where the link has no word for the key: other keys of the plan drop what stood there.
    """
    keys = {"cluster.num_gpus": row.num_gpus, **(row.keys or {})}
    overrides = {key: f"{key}={text_of(value)}" for key, value in keys.items()}
    said = [text for key, text in overrides.items() if keys[key] is not None or link_changes([text])]
    changes = link_changes(said)
    loaded = replace(source, overrides=(*source.overrides, *said))
    if changes is None or loaded.error() is not None:
        return None
    scenario = loaded.load()
    is_plan = all(text_of(value_at(scenario, whole_key(key))) == text_of(value) for key, value in keys.items())
    return changes if is_plan else None


def _load(num_gpus: int, changes: dict[str, str]) -> None:
    state.change(**changes)
    state.set_page(show=None)
    st.session_state[LOADED] = num_gpus


def _say_loaded() -> None:
    loaded: Any = st.session_state.pop(LOADED, None)
    if loaded is not None:
        st.success(
            f"The plan of {loaded:,} GPUs is loaded: every page is of it now; What if has its figures.", icon="✅"
        )


def _why(result: PlanResult) -> None:
    """Why the taken layout is the one, and what the others were left out for."""
    lines = plan_words.reasons(result)
    if lines:
        st.subheader("Why this layout")
        st.markdown("\n".join(f"- {as_text(line)}" for line in lines))
    if given := plan_words.given(result):
        st.subheader("The scenario's own layout")
        st.markdown("\n".join(f"- {as_text(line)}" for line in given))
    if result.rejected:
        with st.expander("Layouts that were left out"):
            st.markdown("\n".join(f"- {as_text(reason)}: {number:,}" for reason, number in result.rejected.items()))
