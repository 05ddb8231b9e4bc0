"""What pages ask the worker processes for: the same request of any session is one job, and its answer is kept.

job = jobs.of(run.first_answer, source, 2)
answer = value_of(job, "Simulating the step")      # widgets/waiting.py: None while it is not there
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from typing import Any, Final

from dashboards.pool import Job, Jobs, Pool
from dashboards.source import Source

__all__ = ["Job", "close", "end_run", "forget", "install", "known", "new_run", "of", "start"]

WARM: Final = "dashboards.work.warm:warm"

_lock = threading.Lock()
_installed: list[Jobs] = []


def start() -> Jobs:
    """The process's pool, started where there is none yet."""
    with _lock:
        if not _installed:
            _installed.append(Pool(warm=WARM))
        return _installed[0]


def install(jobs: Jobs | None) -> None:
    """Have the work done by `jobs` from now on (tests); None: by a pool of processes, started when asked."""
    with _lock:
        _installed[:] = [] if jobs is None else [jobs]


def close() -> None:
    """End the processes, where there are any."""
    with _lock:
        for jobs in _installed:
            jobs.close()
        _installed.clear()


def of(function: Callable[..., Any], *arguments: Any, later: bool = False) -> Job:
    """The job that a module-level function of dashboards/work does on picklable arguments (Source, numbers, texts, tuples).

    later: a refinement, before which first answers of all sessions go. Returns at once.
    """
    name = _name(function)
    return start().ask(_key(name, arguments), name, arguments, later, session())


def known(function: Callable[..., Any], *arguments: Any) -> Job | None:
    """The job of such a request, where there is one; asks for nothing."""
    return start().jobs.get(_key(_name(function), arguments))


def new_run() -> None:
    """The page of this browser tab begins to be shown anew."""
    start().new_run(session())


def end_run() -> None:
    """The page is shown: requests of earlier runs that it has not repeated lapse."""
    start().end_run(session())


def forget(job: Job) -> None:
    """Do the work again at the next request."""
    start().forget(job)


def session() -> str:
    """The browser tab whose page is being made; "" where there is none."""
    from streamlit.runtime.scriptrunner import get_script_run_ctx

    context = get_script_run_ctx(suppress_warning=True)
    return "" if context is None else context.session_id


def _name(function: Callable[..., Any]) -> str:
    return f"{function.__module__}:{function.__qualname__}"


def _key(name: str, arguments: tuple[Any, ...]) -> str:
    """Hash of the function's name and of all that it is given."""
    texts = [argument.key if isinstance(argument, Source) else repr(argument) for argument in arguments]
    return hashlib.sha256("\0".join([name, *texts]).encode()).hexdigest()
