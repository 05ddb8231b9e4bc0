"""Waits for a job without holding the page: progress while it runs, its value when it is done, words when it failed."""

from __future__ import annotations

from typing import Any, Final

import streamlit as st

from dashboards import jobs
from dashboards.jobs import Job
from dashboards.widgets.problems import show_problems

AT_ONCE_S: Final = 0.25
"""What takes no longer is simply there: no progress is shown and no second run of the page is needed."""
POLL_S: Final = 0.5


def value_of(job: Job, words: str) -> Any | None:
    """The job's value; None while it is not there, and then the page shows its progress, or why it failed.

    words: what is being done, for people ("Simulating the step").
    """
    job.wait(AT_ONCE_S)
    if job.state == "done":
        return job.value
    if job.state == "failed":
        _failed(job)
        return None
    _wait(job, words)
    return None


def _wait(job: Job, words: str) -> None:
    @st.fragment(run_every=POLL_S)
    def progress() -> None:
        if job.is_over:
            st.rerun()
        st.progress(job.progress, text=_text(job, words))

    progress()


def _text(job: Job, words: str) -> str:
    """'Simulating the step: 12 of 32 draws', or that others are served first."""
    if job.state == "queued":
        return f"{words}: waiting for its turn"
    return f"{words}: {job.words}" if job.words else f"{words} …"


def _failed(job: Job) -> None:
    assert job.error is not None
    show_problems(job.error.problems)
    if not job.error.is_input:
        st.button("Try again", key=f"again-{job.key}", on_click=jobs.forget, args=(job,))
