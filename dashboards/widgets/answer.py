"""The answer of the What-if page: does it fit, the headline figures with their differences, what binds, what to change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import pandas as pd
import streamlit as st

from dashboards import jobs, remedied, state
from dashboards.answers import Answer
from dashboards.widgets.problems import as_text, show_problems
from dashboards.widgets.waiting import value_of
from dashboards.work import remedies as work
from simulator.report import headline
from simulator.report.memory_words import best_variants, variant_words
from simulator.report.what_if import Shown, gains
from simulator.results.memory_variants import MemoryVariants
from simulator.results.run_result import RunResult
from simulator.results.step_memory import Memory

HELP: Final = {
    "cost": "GPU-hours times the price; its interval is that of the GPU-hours times that of the price.",
    "wall_clock": "Of the whole run without failures, checkpoints or restarts, with its 90 % interval.",
    "gpu_hours": "All GPUs of the job for the wall clock, with the 90 % interval.",
    "step": "Mean time of a step at full batch, with its 90 % interval.",
    "throughput": "Tokens of a step over its time and all GPUs.",
    "mfu": "The model's own FLOP over what the GPU could do at its dense BF16 peak; causal attention counts half.",
}
VERDICTS: Final = {"fits": st.success, "marginal": st.warning, "does not fit": st.error}
ICONS: Final = {"fits": "✅", "marginal": "⚠️", "does not fit": "⛔"}
NUM_GAINS: Final = 6


def show_verdict(result: RunResult, shown: Sequence[Shown]) -> None:
    """Does it fit: in words, with the fullest stage and its margin."""
    figure = headline.memory(result)
    memory = next(each for each in shown if each.figure.key == "memory")
    change = f" Peak {memory.change}, {memory.was}." if memory.was else ""
    words = (
        f"**{as_text(figure.value.capitalize())}**: {as_text(figure.note)}; {as_text(figure.range)}.{as_text(change)}"
    )
    VERDICTS[figure.value](words, icon=ICONS[figure.value])


def show_figures(shown: Sequence[Shown], draws: str) -> None:
    """Cards of equal height, three in a row, with the interval and the difference to the baseline in words. draws: of a first
    answer, what it is of, "" else.
    """
    cards = [each for each in shown if each.figure.key != "memory"]
    for first in range(0, len(cards), 3):
        for column, card in zip(st.columns(3), cards[first : first + 3], strict=False):
            with column:
                _card(card, draws)


def _card(card: Shown, draws: str) -> None:
    figure = card.figure
    colour: Literal["green", "red", "gray"] = "gray"
    if card.is_better is not None:
        colour = "green" if card.is_better else "red"
    arrow: Literal["up", "down", "off"] = "up" if card.sign > 0 else "down" if card.sign < 0 else "off"
    with st.container(border=True, height="stretch", gap="xsmall"):
        st.metric(
            as_text(figure.label), as_text(figure.value), delta=as_text(card.change) or None, delta_color=colour,
            delta_arrow=arrow, help=HELP.get(figure.key),
        )  # fmt: skip
        interval = draws if draws and figure.range else f"90 %: {figure.range}" if figure.range else ""
        st.caption(as_text(" · ".join(filter(None, (card.was, interval, figure.note)))))


def show_gains(result: RunResult, *, is_first: bool) -> None:
    """What binds: what the step would gain, and why. is_first: a first answer, which leaves that out."""
    rows = gains(result)[:NUM_GAINS]
    if not rows:
        st.caption("Follows with all draws." if is_first else "Nothing was found that holds the step back.")
        return
    columns = ["What binds", "A step would gain", "Why"]
    st.table(pd.DataFrame([[as_text(text) for text in row] for row in rows], columns=columns).set_index(columns[0]))
    st.caption("What the step would gain if this alone were free: a what-if, so the rows do not add up to the step.")


def waiting_words(answer: Answer) -> str:
    """What is being done while an answer is not whole."""
    if not answer.is_first:
        return "Simulating"
    return f"First answer from {answer.draws} of {answer.all_draws} draws, refining"


def show_room(variants: MemoryVariants, memory: Memory) -> None:
    """Buttons for the variants that need least memory; all of them are counted, none is simulated."""
    found = [(each, remedied.link_changes(each.changes)) for each in best_variants(memory, variants)]
    offered = [(each, changes) for each, changes in found if changes is not None and each.memory is not None]
    with st.container(horizontal=True):
        for place, (variant, changes) in enumerate(offered):
            assert variant.memory is not None
            words = f"Set {variant_words(variant)} ({variant.memory.verdict})"
            st.button(as_text(words), key=f"room-{place}", on_click=state.change, kwargs=dict(changes))


def show_impossible() -> None:
    """Why it cannot be, and buttons that set the nearest values that can."""
    asked = state.current()
    show_problems(asked.problems, title="This combination cannot be")
    found = value_of(jobs.of(work.remedies, asked.source), "Looking for the nearest that works")
    offers = () if found is None else remedied.offers(asked.source, found)
    if offers:
        st.markdown("**The nearest that works**" if offers[0].solves else "**What mends a part**")
    with st.container(horizontal=True):
        for place, offer in enumerate(offers):
            words = offer.words if offer.solves else f"{offer.words} (mends a part)"
            st.button(as_text(words), key=f"offer-{place}", on_click=state.change, kwargs=dict(offer.changes))
    if changed := state.changed():
        taken = dict.fromkeys(changed)
        st.button("Take all changes back", key="offer-none", on_click=state.change, kwargs=taken, type="tertiary")
