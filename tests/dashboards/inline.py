"""A pool without processes: pages are tested with the work done where they are made."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

from dashboards.pool import Job
from dashboards.worker import failure_of, function_of

_MADE: dict[tuple[Any, str], Any] = {}
"""(function, key of its arguments) → what it made: files of tests ask for the same few runs again."""


class Inline:
    """Does the work at once and here."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.number = count()

    def ask(self, key: str, function: str, arguments: tuple[Any, ...], later: bool, session: str) -> Job:
        if key not in self.jobs:
            job = self.jobs[key] = Job(key, function, arguments, later, next(self.number))
            try:
                job.value, job.state, job.progress = _made(key, function_of(function), arguments), "done", 1.0
            except Exception as error:
                job.error, job.state = failure_of(error), "failed"
            job.done.set()
        return self.jobs[key]

    def new_run(self, session: str) -> None:
        """Nothing is superseded where nothing waits."""

    def end_run(self, session: str) -> None:
        """Nor here."""

    def forget(self, job: Job) -> None:
        self.jobs.pop(job.key, None)

    def close(self) -> None:
        self.jobs.clear()


def _made(key: str, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    if (function, key) not in _MADE:
        _MADE[function, key] = function(*arguments)
    return _MADE[function, key]
