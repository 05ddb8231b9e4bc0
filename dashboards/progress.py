"""How work in a worker process says how far it is. Elsewhere (tests, the command line) it says nothing."""

from __future__ import annotations

from collections.abc import Callable

_listeners: list[Callable[[float, str], None]] = []


def report_progress(fraction: float, words: str) -> None:
    """Say that a fraction (0 to 1) of the work is done, and what is done now. Raises Dropped where nobody waits any more."""
    for listener in _listeners:
        listener(min(1.0, max(0.0, fraction)), words)


def listen(listener: Callable[[float, str], None]) -> None:
    """Have every later report told to `listener`, in place of an earlier one."""
    _listeners[:] = [listener]


class Dropped(Exception):
    """Nobody waits for this work any more."""
