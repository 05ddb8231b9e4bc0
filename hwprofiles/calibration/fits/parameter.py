"""A constant of a stack with range, state, basis and source, as parameters.yaml has it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the points are from: a source's document and date."""

    where: str
    date: str = ""


NEAR: Final = (0.5, 0.25, 1.0)
"""anchor_doublings of constants fitted to a stack's own rows: on whole weight shapes and configurations of our own H100
left out, rows correct the formula at 0.5 as well as it is alone or better; at 4 they bend attention from 2.1 to 3.2 %.
"""

Entry = tuple[str, float, float, float, str]
"""Key, value, low, high, unit."""


def parameters(
    entries: Iterable[Entry], origin: Origin, state: str, note: str
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Key → mapping. state: of the chip, "" where it is not of a clock; note: what is known of the fit."""
    source = {"kind": "measurement", "where": origin.where, "date": origin.date, "note": note}
    for key, value, low, high, unit in entries:
        yield key, {
            "value": _short(value), **_ends(value, low, high), "unit": unit,
            **({"state": state} if state else {}), "basis": "interpolated",
            "source": {name: text for name, text in source.items() if text},
        }  # fmt: skip


def _ends(value: float, low: float, high: float) -> dict[str, float]:
    """Both ends; none where they are the value."""
    ends = {"low": _short(min(low, value)), "high": _short(max(high, value))}
    return {} if set(ends.values()) == {_short(value)} else ends


def _short(value: float) -> float:
    """Five digits, so that files are short and low <= value <= high still holds."""
    return float(f"{value:.5g}")
