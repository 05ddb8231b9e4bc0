"""A copy of this process beside it, which does a part of the work and hands back one result after the other.

It holds what this process held when it began, and ends with it. Where it fails, no more results come: the first process does
the rest itself, and meets the same problem there.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection
from typing import Generic, TypeVar

Found = TypeVar("Found")


def can_fork() -> bool:
    """Whether a copy of this process can go on by itself beside it: no other thread holds what the copy would wait for."""
    return sys.platform == "linux" and (os.cpu_count() or 1) > 1 and threading.active_count() == 1


class SecondProcess(Generic[Found]):
    """Begins with `work`, whose results it hands back in their order. Only where `can_fork`."""

    def __init__(self, work: Callable[[], Iterable[Found]]) -> None:
        context = multiprocessing.get_context("fork")
        self._results, theirs = context.Pipe(duplex=False)
        self._process = context.Process(target=_hand_back, args=(theirs, work), daemon=True)
        self._process.start()
        theirs.close()

    def next(self) -> tuple[Found] | None:
        """Waits for the next result; None where no more come."""
        try:
            found: tuple[Found] = self._results.recv()
        except (EOFError, OSError):
            return None
        return found

    def end(self) -> None:
        """Ends it, done or not."""
        self._process.kill()
        self._process.join()
        self._results.close()


def _hand_back(results: Connection, work: Callable[[], Iterable[Found]]) -> None:
    """The second process, until its first problem."""
    try:
        for found in work():
            results.send((found,))
    except BaseException:
        results.close()
