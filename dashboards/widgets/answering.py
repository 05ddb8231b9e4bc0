"""Waits for runs that get better: progress while draws are missing, the page made anew when more is known."""

from __future__ import annotations

from collections.abc import Sequence
from math import fsum
from typing import Final

import streamlit as st

from dashboards import answers, jobs
from dashboards.answers import Answer
from dashboards.jobs import Job
from dashboards.source import Source
from dashboards.widgets.problems import show_problems
from simulator.errors import InputError

POLL_S: Final = 0.4
REFINING_POLL_S: Final = 1.0
"""The same where figures are there and get better: every look of every open page is work of the server."""


def answered(source: Source) -> Answer | None:
    """The run of a source, as far as it is known; None where it cannot be run, which is said."""
    try:
        return answers.of(source)
    except InputError as error:
        show_problems(error.problems)
        return None


def refine(known: Sequence[Answer], words: str, also: Sequence[Answer | Job] = ()) -> None:
    """Progress of the answers that are not whole, and why one failed; nothing where all are whole. The page is made anew
    whenever one of them, or of `also`, has become better.

    words: what is being done ("Simulating both runs"). also: what the page shows too, without progress (a baseline).
    """
    waited = [*known, *also]
    before = _num_over(waited)  # counted first: what ends from now on is seen as new
    for job in {answer.failed.key: answer.failed for answer in known if answer.failed is not None}.values():
        _show_failure(job)
    if any(isinstance(each, Answer) and _is_stale(each) for each in waited):
        st.rerun()
    if before < len(waited):
        _progress([answer for answer in known if not answer.is_over and answer.failed is None], waited, before, words)


def _show_failure(job: Job) -> None:
    """Why there is no run, and a button that tries again where that may help."""
    if job.error is None:
        return
    show_problems(job.error.problems)
    if not job.error.is_input:
        st.button("Try again", key=f"again-{job.key}", on_click=jobs.forget, args=(job,))


def _is_stale(answer: Answer) -> bool:
    """Whether its jobs have ended since it was put together, so that more is known by now."""
    return answer.is_over and not answer.is_whole and answer.failed is None


def _progress(refined: Sequence[Answer], waited: Sequence[Answer | Job], before: int, words: str) -> None:
    @st.fragment(run_every=POLL_S if any(answer.result is None for answer in refined) else REFINING_POLL_S)
    def progress() -> None:
        if _num_over(waited) > before:
            st.rerun()
        if refined:
            done = fsum(answer.progress for answer in refined) / len(refined)
            detail = next((answer.words for answer in refined if answer.words), "")
            st.progress(min(1.0, done), text=f"{words}: {detail}" if detail else f"{words} …")

    progress()


def _num_over(waited: Sequence[Answer | Job]) -> int:
    return sum(each.is_over for each in waited)
