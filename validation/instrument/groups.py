"""Summaries by group: what rows are told apart by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from validation.instrument.outcome import Outcome
from validation.instrument.statistics import statistics

FEW: Final = 8
MANY: Final = 11
"""Inputs that a row leaves open: from MANY on it is told with little certainty how it was run, below FEW with much."""


def _inputs(row: Outcome) -> str:
    count = len(row.assumed)
    return f"below {FEW} assumed" if count < FEW else f"{FEW} to {MANY - 1}" if count < MANY else f"{MANY} and more"


def _label(name: str) -> Callable[[Outcome], str]:
    return lambda row: row.labels.get(name, "")


def _group(name: str) -> Callable[[Outcome], str]:
    return lambda row: str(row.group.get(name) or "")


BY: Final[Mapping[str, Callable[[Outcome], str]]] = {
    "gpu": _group("gpu"),
    "kind": _label("kind"),
    "precision": _label("recipe"),
    "framework": _group("framework"),
    "inputs": _inputs,
    "graph scope": _label("graph_scope"),
    "dispatcher": _label("dispatcher"),
    "overlap": _label("overlap"),
    "source": _label("source"),
}
"""What rows are grouped by → the group's name of a row; "" where the row does not say."""


def by_group(rows: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Statistics of every group of rows, groupings in the order of BY, the largest group of each first."""
    found = []
    for name, value_of in BY.items():
        members: dict[str, list[Outcome]] = {}
        for row in rows:
            members.setdefault(value_of(row), []).append(row)
        members.pop("", None)
        ranked = sorted(members.items(), key=lambda each: (-len(each[1]), each[0]))
        found += [{"by": name, "value": value, **statistics(each)} for value, each in ranked]
    return found
