"""Cluster sizes planned by two processes: the second, a copy of the first, takes every other one and hands back what it found.

Which process plans a size changes nothing of its plan. What the second one does not hand back, the first does itself.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from simulator.run.beside import can_fork

Found = TypeVar("Found")
Report = Callable[[int], None]
"""Is told which place is begun."""


def planned_by_two(
    sizes: Sequence[int], plan: Callable[[int], Found], report: Report = lambda place: None
) -> list[Found]:
    """What `plan` finds of every size, in their order; by one process where there is one processor, or another thread runs."""
    places = range(len(sizes))
    if len(sizes) < 2 or not can_fork():
        return [_reported(report, place, plan, sizes) for place in places]
    context = multiprocessing.get_context("fork")
    results, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_hand_back, args=(theirs, sizes[1::2], plan), daemon=True)
    process.start()
    theirs.close()
    try:
        found = {place: _reported(report, place, plan, sizes) for place in places[::2]}
        for place in places[1::2]:
            report(place)
            handed = _received(results)
            found[place] = plan(sizes[place]) if handed is None else handed[0]
    finally:
        process.kill()
        process.join()
        results.close()
    return [found[place] for place in places]


def _reported(report: Report, place: int, plan: Callable[[int], Found], sizes: Sequence[int]) -> Found:
    report(place)
    return plan(sizes[place])


def _hand_back(results: Connection, sizes: Sequence[int], plan: Callable[[int], Any]) -> None:
    """The second process: one size after the other, until the first problem, which the first process will meet itself."""
    try:
        for size in sizes:
            results.send((plan(size),))
    except BaseException:
        results.close()


def _received(results: Connection) -> tuple[Any] | None:
    """The next that the second process found; None where no more come."""
    try:
        found: tuple[Any] = results.recv()
    except (EOFError, OSError):
        return None
    return found
