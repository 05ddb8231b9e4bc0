"""Waits for runs that get better: progress while draws are missing, the page made anew when more is known."""

from __future__ import annotations

from collections.abc import Sequence
from math import fsum
from typing import Final

import streamlit as st

from dashboards import answers, jobs
from dashboards.answers import Answer
from dashboards.source import Source
from dashboards.widgets.problems import show_problems
from simulator.errors import InputError

POLL_S: Final = 0.5


def answered(source: Source) -> Answer | None:
    """The run of a source, as far as it is known; None where it cannot be run, which is said."""
    try:
        return answers.of(source)
    except InputError as error:
        show_problems(error.problems)
        return None


def refine(known: Sequence[Answer], words: str) -> None:
    """Progress of the answers that are not whole, and why one failed; nothing where all are whole.

    words: what is being done ("Simulating both runs").
    """
    for answer in known:
        if answer.failed is not None and answer.failed.error is not None:
            show_problems(answer.failed.error.problems)
            if not answer.failed.error.is_input:
                st.button("Try again", key=f"again-{answer.failed.key}", on_click=jobs.forget, args=(answer.failed,))
    waiting = [answer for answer in known if not answer.is_over and answer.failed is None]
    if waiting:
        _progress(waiting, words)


def _progress(waiting: Sequence[Answer], words: str) -> None:
    before = _num_over(waiting)

    @st.fragment(run_every=POLL_S)
    def progress() -> None:
        if _num_over(waiting) > before:
            st.rerun()
        done = fsum(answer.progress for answer in waiting) / len(waiting)
        detail = next((answer.words for answer in waiting if answer.words), "")
        st.progress(min(1.0, done), text=f"{words}: {detail}" if detail else f"{words} …")

    progress()


def _num_over(waiting: Sequence[Answer]) -> int:
    return sum(job.is_over for answer in waiting for job in answer.jobs)
