"""A timer's request that meets the end of a run starts no other thread: what the run said would be lost."""

from __future__ import annotations

import inspect
from types import SimpleNamespace
from typing import Any

import pytest
from streamlit.proto.ClientState_pb2 import ClientState
from streamlit.runtime.app_session import AppSession, AppSessionState

from dashboards.late_timers import let_go_of_late_timers

ENDED = SimpleNamespace(request_rerun=lambda rerun: False, request_stop=lambda: None)
"""A script's thread that takes no request any more; its messages have not been read."""
AT_WORK = SimpleNamespace(request_rerun=lambda rerun: True, request_stop=lambda: None)


def started(monkeypatch: pytest.MonkeyPatch, runner: Any, *, of_timer: bool, part: str) -> int:
    """Threads that Streamlit's own handling of a request starts, mended as the server mends it (twice: no more harm)."""
    begun: list[Any] = []
    monkeypatch.setattr(AppSession, "_create_scriptrunner", lambda session, rerun: begun.append(rerun))
    let_go_of_late_timers()
    let_go_of_late_timers()
    session: Any = SimpleNamespace(
        _state=AppSessionState.APP_NOT_RUNNING,
        _scriptrunner=runner,
        has_fragment=lambda name: True,
        _client_state=ClientState(),
    )
    session._create_scriptrunner = lambda rerun: AppSession._create_scriptrunner(session, rerun)
    AppSession.request_rerun(session, ClientState(fragment_id=part, is_auto_rerun=of_timer))
    return len(begun)


@pytest.mark.parametrize(
    ("runner", "of_timer", "part", "number"),
    [
        (ENDED, True, "progress", 0),
        (None, True, "progress", 1),
        (AT_WORK, True, "progress", 0),
        (ENDED, False, "progress", 1),
        (ENDED, False, "", 1),
        (AT_WORK, False, "", 1),
    ],
    ids=[
        "timer at the end",
        "timer of a page at rest",
        "timer in a run",
        "user's part",
        "user's page",
        "page in a run",
    ],
)
def test_a_timer_starts_no_thread_where_one_is_still_heard(
    monkeypatch: pytest.MonkeyPatch, runner: Any, of_timer: bool, part: str, number: int
) -> None:
    assert started(monkeypatch, runner, of_timer=of_timer, part=part) == number


def test_streamlit_ignores_what_a_replaced_thread_says() -> None:
    """What the mend rests on: where this is no longer so, the mend can go."""
    assert "sender is not self._scriptrunner" in inspect.getsource(AppSession._handle_scriptrunner_event_on_event_loop)
