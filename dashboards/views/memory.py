"""Memory: What fills a GPU of each pipeline stage, against what it has, and what recompute, schedule and formats do to it."""

from __future__ import annotations

from typing import Final

import streamlit as st

from dashboards import jobs, state
from dashboards.widgets.asked import asked_under
from dashboards.widgets.figure import figure, mode
from dashboards.widgets.metrics import Metric, metrics
from dashboards.widgets.problems import as_text
from dashboards.widgets.table import table
from dashboards.widgets.waiting import value_of
from dashboards.work import memory as work
from simulator.report.figures.memory import alt, memory_figure, variants_alt, variants_figure
from simulator.report.frames.memory import tensors_shown, variants_shown
from simulator.report.memory_words import advice, headline, verdict_sentence, why_not
from simulator.results.memory_variants import VARIANT_KINDS, MemoryVariants
from simulator.results.step_memory import Memory
from simulator.run.step_key import step_document
from simulator.scenario.scenario import Scenario

TIMES: Final = "times"
"""What the link says where step times are simulated too."""


def show() -> None:
    """Lay the page out."""
    asked = asked_under("Memory")
    if asked is None:
        return
    _, scenario = asked
    st.caption(f"What fills a GPU of each pipeline rank in a step of {as_text(scenario.name)}, against what it has.")
    document = step_document(scenario)
    memory = value_of(jobs.of(work.memory, document), "Counting what every rank holds")
    if memory is None:
        return
    metrics([Metric(each.label, each.text, help=each.help) for each in headline(memory)])
    st.write(as_text(verdict_sentence(memory)))
    figure(memory_figure(memory, mode()), alt(memory), key="memory-by-rank")
    variants = value_of(jobs.of(work.variants, document), "Counting it under other recompute, schedules and formats")
    _show_tensors(memory, variants)
    if variants is not None:
        _show_variants(memory, variants, document, scenario)


def _show_tensors(memory: Memory, variants: MemoryVariants | None) -> None:
    """What makes room, and the table of one rank's tensors, the fullest first."""
    st.subheader("What makes room" if memory.verdict != "fits" else "What would make more room")
    st.markdown("\n".join(f"- {as_text(line)}" for line in advice(memory, variants)))
    st.caption(
        "The largest tensors of the fullest rank with keys that act on them, then the changes with the lowest peaks."
    )
    ranks = [stage.pp_rank for stage in memory.by_stage]
    worst = ranks.index(memory.worst_stage.pp_rank)
    rank = st.selectbox(
        "Tensors of pipeline rank", ranks, index=worst, key=f"memory-rank-{worst}-{len(ranks)}", width=240,
        help="The fullest rank is shown first.",
    )  # fmt: skip
    widths = {"tensor": 220, "holds": 150, "size": 69, "of the peak": 91, "keys that act on it": 588}
    columns = {name: st.column_config.TextColumn(width=width) for name, width in widths.items()}
    table(tensors_shown(memory, rank), key="memory-tensors", columns=columns)


def _show_variants(memory: Memory, variants: MemoryVariants, document: str, scenario: Scenario) -> None:
    """Recompute, schedules, formats: chart, tables, and on demand the step times."""
    st.subheader("Under other recompute, schedules, formats and sharding")
    figure(variants_figure(memory, variants, mode()), variants_alt(variants), key="memory-variants")
    st.toggle(
        "Simulate the step time of each too",
        value=state.page("show") == TIMES,
        key="memory-times",
        on_change=_toggle_times,
        help=f"Peaks need no simulated step. Step times do, from {scenario.draws} random draws for each variant.",
    )
    step_s = None
    if state.page("show") == TIMES:
        changes = tuple(dict.fromkeys(each.changes for each in variants.variants if each.memory is not None))
        step_s = value_of(jobs.of(work.step_times, document, changes, later=True), "Simulating a step of each")
    wide = st.column_config.TextColumn(width=255)
    for kind in VARIANT_KINDS:
        frame = variants_shown(variants, kind, step_s)
        table(frame, key=f"memory-{kind}", columns={frame.columns[0]: wide})
    words = "Each row is this scenario with the changes in its last column; other keys stay. Peaks are counted, not simulated."
    st.caption("\n\n".join([words, *map(as_text, why_not(variants))]))


def _toggle_times() -> None:
    state.set_page(show=TIMES if st.session_state["memory-times"] else None)
