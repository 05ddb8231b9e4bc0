"""Names of scenarios that stand beside one another in a table."""

from __future__ import annotations

from collections.abc import Sequence

from simulator.report import facts
from simulator.results.run_result import RunResult


def labels(results: Sequence[RunResult]) -> tuple[str, ...]:
    """The scenarios' names; of equal ones, from the second on, with their number among them: "base", "base (2)"."""
    found: list[str] = []
    for result in results:
        name, number = facts.name(result) or "scenario", 1
        label = name
        while label in found:
            number += 1
            label = f"{name} ({number})"
        found.append(label)
    return tuple(found)
