"""What if: does it fit, how many days, at what cost, and what holds it back: of the scenario and of each change to it."""

from __future__ import annotations

from typing import Final

import streamlit as st

from dashboards import answers, controls, exported, jobs, remedied, state
from dashboards.answers import Answer
from dashboards.jobs import Job
from dashboards.source import UPLOADED, Source, presets
from dashboards.state import Current
from dashboards.widgets import answer as shown_answer
from dashboards.widgets import controls as shown_controls
from dashboards.widgets import run_controls, sureness
from dashboards.widgets.answering import answered, refine
from dashboards.widgets.problems import as_text
from dashboards.widgets.upload import upload
from dashboards.work import memory as work
from simulator.errors import InputError
from simulator.report.facts import power_words, step_notes
from simulator.report.what_if import beside, memory_advice, needs_room, what_to_change
from simulator.results.memory_variants import MemoryVariants
from simulator.results.run_result import RunResult
from simulator.run.step_key import step_document
from simulator.scenario.scenario import Scenario

PRESET: Final = "set-preset"
OPEN: Final = 3
"""Groups of controls that are open to begin with."""


def show() -> None:
    """Lay the page out: controls on the left, the answer on the right."""
    st.title("What if")
    left, right = st.columns([3, 7], gap="medium")
    asked = state.current()
    with left:
        _show_controls(asked)
    with right:
        _show_right(asked)


def _show_controls(asked: Current) -> None:
    """What the scenario begins from, and everything that can be changed in it."""
    names = [*presets(), *([UPLOADED] if asked.source.text is not None else [])]
    st.session_state[PRESET] = asked.source.base if asked.source.text is None else UPLOADED
    st.selectbox("Begin from", names, key=PRESET, on_change=_start, help="A preset; what was changed is taken back.")
    with st.popover("Upload a scenario", width="stretch"):
        found = upload("Scenario file (YAML)", "what-if-upload", takes_unfit=True)
        if found is not None and found.source is not None:
            st.button("Use this scenario", on_click=state.upload, args=(found.source.text,), key="use-upload")
        elif found is not None:
            st.caption("This is a result: compare it on the page Compare, or make a report of it.")
    scenario = asked.scenario or remedied.unfit(asked.source)
    if scenario is None:
        return
    for place, (title, group) in enumerate(controls.GROUPS):
        if any(control.shows(scenario) for control in group):
            with st.expander(title, expanded=place < OPEN):
                shown_controls.show_group(group, scenario, asked.source)
                if title == controls.DERIVED_IN:
                    st.caption(as_text(controls.derived_words(scenario)))
    with st.expander("Length and price of the run", expanded=True):
        run_controls.show(scenario, asked.source)


def _start() -> None:
    name = st.session_state[PRESET]
    if name != UPLOADED:
        state.start(name)


def _show_right(asked: Current) -> None:
    if asked.scenario is None:
        shown_answer.show_impossible()
        return
    answer = answered(asked.source)
    if answer is None:
        return
    base = _baseline(asked)
    room = _variants(asked.scenario, answer.result)
    refine([answer], shown_answer.waiting_words(answer), [each for each in (base, room) if each is not None])
    if answer.result is not None:
        _show_answer(asked, answer, answer.result, base, room)


def _variants(scenario: Scenario, result: RunResult | None) -> Job | None:
    """The memory under other recompute, schedules and formats, where the plan does not surely fit."""
    if result is None or not needs_room(result):
        return None
    return jobs.of(work.variants, step_document(scenario), later=True)


def _show_answer(asked: Current, answer: Answer, result: RunResult, base: Answer | None, room: Job | None) -> None:
    shown = beside(result, None if base is None else _before(asked, answer, base))
    shown_answer.show_verdict(result, shown)
    _show_warnings(asked.source, result)
    _show_baseline(asked, base)
    draws = "" if answer.is_whole else f"of {answer.draws} of {answer.all_draws} draws; interval follows"
    shown_answer.show_figures(shown, draws)
    if power := power_words(result.step):
        st.caption(as_text(f"{power[0].upper()}{power[1:]}."))
    for note in step_notes(result.step):
        st.caption(as_text(note))
    st.subheader("What binds")
    shown_answer.show_gains(result, is_first=answer.is_first)
    _show_advice(result, room.value if room is not None and room.state == "done" else None)
    sureness.show(result, is_first=answer.is_first)
    _show_left_out(result)
    _show_export(asked.source)


def _baseline(asked: Current) -> Answer | None:
    """The whole run that figures are compared with; None where it is the one that is shown, or cannot be."""
    source = _base_of(asked)
    if source == asked.source:
        return None
    try:
        return answers.of(source, only_whole=True)
    except InputError:
        return None


def _before(asked: Current, answer: Answer, base: Answer) -> RunResult | None:
    """What figures are compared with: of a first answer, the baseline from the same draws where it is known."""
    return (answers.first_known(_base_of(asked)) if answer.is_first else None) or base.result


def _base_of(asked: Current) -> Source:
    return asked.pinned or asked.source.plain()


def _show_baseline(asked: Current, answer: Answer | None) -> None:
    """What figures are compared with, and how to change that."""
    base = _base_of(asked)
    name = f"{base.base} as it is" if not base.overrides else f"{base.base} with {', '.join(base.overrides)}"
    kind = "what is pinned" if asked.pinned is not None else "the preset"
    with st.container(horizontal=True, vertical_alignment="center"):
        if base == asked.source:
            words = f"This is the baseline: {name}."
        elif answer is None or answer.failed is not None:
            words = f"The baseline, {name}, cannot be computed."
        elif answer.result is None:
            words = f"The baseline, {name}, is being simulated …"
        else:
            words = f"Differences are to {kind}: {name}."
        st.caption(as_text(words))
        st.space("stretch")
        st.button("Pin as baseline", on_click=state.pin, key="pin", disabled=asked.pinned == asked.source,
                  help="Compare every further change with what is shown now; the link holds it.")  # fmt: skip
        if asked.pinned is not None:
            st.button("Unpin", on_click=state.unpin, key="unpin", help="Compare with the preset as it is.")


def _show_advice(result: RunResult, room: MemoryVariants | None) -> None:
    """What should be changed, as far as the result says."""
    st.subheader("What should we change?")
    if advice := memory_advice(result, room):
        st.markdown("Memory: the largest tensors of the fullest rank and what acts on them, and what needs less:")
        st.markdown("\n".join(f"- {as_text(line)}" for line in advice))
    if room is not None:
        shown_answer.show_room(room, result.memory)
    st.markdown("Time and money:" if advice else "")
    st.markdown("\n".join(f"- {as_text(line)}" for line in what_to_change(result)))


def _show_warnings(source: Source, result: RunResult) -> None:
    """What fell with a change, and warnings, with buttons for what they name: before the figures that they are about."""
    if result.dropped:
        st.warning(as_text(f"Dropped with a change: {'; '.join(result.dropped)}."), icon="✂️")
    if result.warnings:
        with st.expander(f"Warnings of this scenario ({len(result.warnings)})", expanded=True):
            st.markdown("\n".join(f"- {as_text(line)}" for line in result.warnings))
            with st.container(horizontal=True):
                for place, offer in enumerate(remedied.named(source, result.warnings)):
                    st.button(
                        as_text(offer.words), key=f"named-{place}", on_click=state.change, kwargs=dict(offer.changes)
                    )


def _show_left_out(result: RunResult) -> None:
    with st.expander("What is not included", expanded=False):
        st.markdown("\n".join(f"- {as_text(line)}" for line in result.not_modelled))


def _show_export(source: Source) -> None:
    """The scenario as a file, and where else it can be taken."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.download_button(
            "Scenario file", lambda: exported.scenario_file(source), file_name="scenario.yaml", mime="application/yaml",
            on_click="ignore", key="export", help="What is shown as a file for moesim run: what differs from the preset.",
        )  # fmt: skip
        link = "The address of this page is a link to what is shown"
        if state.is_kept_on_server():
            link += ", while this server runs and keeps the uploaded file, which is too long for a link"
        st.caption(f"{link}. Cost report, spreadsheet and print: page Report.")
