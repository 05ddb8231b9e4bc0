"""Compare: Two or more scenarios or result files beside one another: what was changed, and what changed by it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import streamlit as st

from dashboards import compared, state
from dashboards.answers import Answer
from dashboards.compared import Side
from dashboards.keys import MAX_RUNS
from dashboards.widgets.answering import answered, refine
from dashboards.widgets.figure import figure, mode
from dashboards.widgets.metrics import Metric, metrics
from dashboards.widgets.problems import as_text, show_problems
from dashboards.widgets.table import table
from dashboards.widgets.upload import upload
from simulator.report.comparison_markdown import document
from simulator.report.comparison_text import headline, names, step_change
from simulator.report.figures import compare as figures
from simulator.report.frames.compare import inputs_frame, results_in_words
from simulator.results.comparison import Beside, Comparison, compare
from simulator.results.document import to_json
from simulator.results.run_result import RunResult

RUNS, FILE, ADDED, BESIDE = "compare-runs", "compare-file", "compare-added", "compare-beside"
ROW_PIXELS: Final = 35
BETTER: Final[dict[bool | None, Literal["lower", "higher", "neither"]]] = {
    True: "lower",
    False: "higher",
    None: "neither",
}


def show() -> None:
    """Lay the page out."""
    st.title("Compare")
    current = state.current()
    sides = [compared.side(entry, current) for entry in _choose(current)]
    for each in sides:
        if each.problems:
            show_problems(each.problems, f"{each.label} cannot be compared")
    good = [each for each in sides if not each.problems]
    if len(good) < 2 or good[0] is not sides[0]:
        _empty(sides)
        return
    runs = _runs(good)
    if runs is not None:
        base, *others = runs
        _show(compare(base, others), others)


def _choose(current: state.Current) -> list[str]:
    """Entries to compare, the base first: as the link says, else what is pinned or unchanged beside what is asked for."""
    asked = state.page("with")
    entries = asked.split(",") if asked else compared.usual(current)
    left, right = st.columns([3, 2], vertical_alignment="top")
    with right:
        entries = _add_upload(entries)
    options = compared.choices(current, entries)
    st.session_state[RUNS] = list(dict.fromkeys(entries))
    left.multiselect(
        "Runs to compare; the first is the base", options, key=RUNS, max_selections=MAX_RUNS,
        format_func=lambda entry: compared.side(entry, current).label, on_change=_keep,
        help="Presets, what the other pages ask for, what is pinned on What if, and uploaded files.",
    )  # fmt: skip
    return entries


def _keep() -> None:
    state.set_page(**{"with": ",".join(st.session_state[RUNS]) or None, "beside": None})


def _add_upload(entries: list[str]) -> list[str]:
    """The entries with what was uploaded just now."""
    found = upload("Add a result (JSON of moesim run --json) or a scenario (YAML)", FILE)
    if found is None:
        return entries
    entry = compared.keep(found)
    added: set[str] = st.session_state.setdefault(ADDED, set())
    if entry in added or entry in entries or len(entries) >= MAX_RUNS:
        return entries
    added.add(entry)
    entries = [*entries, entry]
    state.set_page(**{"with": ",".join(entries)})
    return entries


def _empty(sides: Sequence[Side]) -> None:
    """What to do where there is nothing to compare."""
    if not sides or sides[0].problems:
        st.info("The first run is the base of the comparison: choose one that can be computed.", icon="⚖️")
        return
    st.info(
        f"Choose a second run to set beside {as_text(sides[0].label)}: a preset above, or a file on the right. Or change "
        "something on the page What if and come back: the changed scenario then stands beside the unchanged one.",
        icon="⚖️",
    )


def _runs(sides: Sequence[Side]) -> list[RunResult] | None:
    """The runs' documents; None while one of them is not there, which is shown."""
    answers = [None if side.source is None else answered(side.source) for side in sides]
    asked = [answer for answer in answers if answer is not None]
    refine(asked, "Simulating the runs")
    _say_first(asked)
    runs = [compared.result_of(side, answer) for side, answer in zip(sides, answers, strict=True)]
    found = [run for run in runs if run is not None]
    return found if len(found) == len(runs) else None


def _say_first(answers: Sequence[Answer]) -> None:
    first = next((answer for answer in answers if answer.is_first), None)
    if first is not None:
        st.caption(
            f"First answer from {first.draws} of {first.all_draws} random draws, refining; until then the intervals leave out "
            "what the assumptions are worth."
        )


def _show(comparison: Comparison, others: Sequence[RunResult]) -> None:
    base, *beside = names(comparison)
    place = _choose_beside(beside)
    found = comparison.others[place]
    _head(comparison, f"{beside[place]} beside {base}")
    for warning in found.warnings:
        st.warning(as_text(warning), icon="⚠️")
    _metrics(comparison, place, others[place])
    left, right = st.columns([2, 3])
    with left:
        _inputs(found, place)
        _bars(comparison)
    with right:
        _step(comparison, place)
    st.subheader("Changed results, the biggest effect first")
    results = results_in_words(found, base, beside[place])
    if len(results):
        table(results, f"compare-results-{place}", height=ROW_PIXELS * (len(results) + 1) + 3)
    else:
        st.caption("None.")


def _head(comparison: Comparison, title: str) -> None:
    """Which runs, and the comparison as a file."""
    head, *buttons = st.columns([6, 1.3, 1.3], vertical_alignment="bottom")
    head.subheader(as_text(title))
    files = (
        ("Markdown", document(comparison), "comparison.md", "text/markdown"),
        ("JSON", to_json(comparison), "comparison.json", "application/json"),
    )
    for button, (label, text, name, media_type) in zip(buttons, files, strict=True):
        button.download_button(label, text, name, media_type, on_click="ignore", width="stretch")


def _metrics(comparison: Comparison, place: int, other: RunResult) -> None:
    """What everybody asks first of the run, with its difference to the base."""
    rows = headline(comparison, place, other)
    metrics([Metric(label, value, change, BETTER[lower]) for label, value, change, lower in rows])


def _inputs(found: Beside, place: int) -> None:
    st.subheader("Changed inputs")
    frame = inputs_frame(found)
    if len(frame):
        table(frame, f"compare-inputs-{place}")
    else:
        st.caption("None: the scenarios are the same.")


def _bars(comparison: Comparison) -> None:
    """Results of all others in per cent of the base's; nothing where none differs."""
    if any(each.results for each in comparison.others):
        st.subheader("Results in % of the base")
        figure(figures.results_figure(comparison, mode()), figures.results_alt(comparison), "compare-results")
        st.caption("Thin lines: 90 % intervals. Dashed: the base.")


def _step(comparison: Comparison, place: int) -> None:
    """The difference of the steps, in words and as a waterfall."""
    st.subheader("The step, from one to the other")
    st.markdown(as_text(step_change(comparison, place)))
    picture = figures.waterfall_figure(comparison, mode(), place=place)
    figure(picture, figures.waterfall_alt(comparison, place), f"compare-step-{place}")


def _choose_beside(labels: Sequence[str]) -> int:
    """Which of several runs is told in full."""
    if len(labels) == 1:
        return 0
    asked = int(state.page("beside") or 1)
    place = asked - 1 if asked <= len(labels) else 0
    st.session_state[BESIDE] = place
    st.segmented_control(
        "Told in full", range(len(labels)), key=BESIDE, format_func=labels.__getitem__,
        on_change=lambda: state.set_page(beside=str((st.session_state[BESIDE] or 0) + 1)),
    )  # fmt: skip
    return place
