"""Cluster sizes planned by two processes: the second, a copy of the first, takes every other one and hands back what it found.

Which process plans a size changes nothing of its plan. What the second one does not hand back, the first does itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from simulator.run.second_process import SecondProcess, can_fork

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
    second = SecondProcess(lambda: map(plan, sizes[1::2]))
    try:
        found = {place: _reported(report, place, plan, sizes) for place in places[::2]}
        for place in places[1::2]:
            report(place)
            handed = second.next()
            found[place] = plan(sizes[place]) if handed is None else handed[0]
    finally:
        second.end()
    return [found[place] for place in places]


def _reported(report: Report, place: int, plan: Callable[[int], Found], sizes: Sequence[int]) -> Found:
    report(place)
    return plan(sizes[place])
