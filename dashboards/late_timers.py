"""Mends a race of Streamlit's that leaves a page half drawn: a timer's request that meets a run's end.

A page that waits asks for a part of itself by a timer. Where such a request comes when the script's thread has ended and the
server has not yet read what it said, Streamlit (1.67, `AppSession.request_rerun`) starts another thread and from then
on ignores the first one's messages: the rest of the page is lost, and with it the timers, until its user does something. On a
busy server that met one change in some thousand. The request is let go here: the page that is being read brings timers of its
own, if it needs any.
"""

from __future__ import annotations

from functools import wraps
from typing import Any


def let_go_of_late_timers() -> None:
    """Have every session of this process do so; once is enough, more does no harm."""
    from streamlit.runtime.app_session import AppSession

    create = AppSession._create_scriptrunner
    if getattr(create, "lets_go", False):
        return

    @wraps(create)
    def create_unless_late(session: Any, rerun: Any) -> None:
        # A runner that is there and was not replaced has refused the request: it has ended, and its messages wait to be read.
        if not (rerun.is_auto_rerun and session._scriptrunner is not None):
            create(session, rerun)

    create_unless_late.lets_go = True  # type: ignore[attr-defined]
    AppSession._create_scriptrunner = create_unless_late  # type: ignore[method-assign, assignment]
