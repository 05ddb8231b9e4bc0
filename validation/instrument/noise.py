"""How well measured runs repeat themselves: the error that a prediction from what rows record cannot go below."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean, median
from typing import Any, Final

from validation.instrument.outcome import Outcome

KINDS: Final = ("MoE", "dense")


def noise_floor(rows: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Of MoE and of dense models: `groups` of rows that are equal in everything recorded, the `rows` in them, and `mape`, the
    mean distance of their step times from the group's median, over it.

    Software may differ by release inside a group; same_release: the three again of rows of one release. mape is None where no
    two rows are equal.
    """
    return [
        {
            "kind": kind,
            **_spread(members, lambda row: ""),
            "same_release": _spread(members, lambda row: row.release),
        }
        for kind in KINDS
        if (members := [row for row in rows if row.labels.get("kind") == kind])
    ]


def _spread(rows: Sequence[Outcome], beside: Callable[[Outcome], str]) -> dict[str, Any]:
    """beside: what has to be equal beside what is recorded."""
    groups: dict[object, list[float]] = {}
    for row in rows:
        groups.setdefault((frozenset(row.recorded.items()), beside(row)), []).append(row.measured_step_s)
    equal = [times for times in groups.values() if len(times) > 1]
    apart = [abs(time / median(times) - 1.0) for times in equal for time in times]
    return {"groups": len(equal), "rows": len(apart), "mape": fmean(apart) if apart else None}
