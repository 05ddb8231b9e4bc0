"""Summaries by group: what rows are told apart by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from validation.instrument.outcome import Outcome
from validation.instrument.statistics import statistics

FEW: Final = 3
MANY: Final = 7
"""Inputs that neither a row nor its framework's release says: up to FEW a row is nearly complete, from MANY on hardly known."""


def _inputs(row: Outcome) -> str:
    count = len(row.assumed)
    if not count:
        return "complete"
    return f"1 to {FEW} assumed" if count <= FEW else f"{FEW + 1} to {MANY - 1}" if count < MANY else f"{MANY} and more"


def _label(name: str) -> Callable[[Outcome], str]:
    return lambda row: row.labels.get(name, "")


def _group(name: str) -> Callable[[Outcome], str]:
    return lambda row: str(row.group.get(name) or "")


BY: Final[Mapping[str, Callable[[Outcome], str]]] = {
    "gpu": _group("gpu"),
    "kind": _label("kind"),
    "software": lambda row: "stated" if row.group.get("release") else "unknown",
    "precision": _label("recipe"),
    "framework": _group("framework"),
    "release": lambda row: f"{row.group['framework']}@{row.group['release']}" if row.group.get("release") else "",
    "inputs": _inputs,
    "graph scope": _label("graph_scope"),
    "dispatcher": _label("dispatcher"),
    "overlap": _label("overlap"),
    "source": _label("source"),
    "model": _group("model"),
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
