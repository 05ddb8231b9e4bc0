"""What the parts have in common: the size of a calibration, and how a part tells a row and what it leaves out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, Literal, Protocol

Size = Literal["full", "quick", "cpu"]
"""full: within the time that a calibration takes; quick: a look; cpu: tiny, without a GPU."""
Row = Mapping[str, Any]
"""Column → value; `name` is a row's own, by which a resumed run knows it."""
Emit = Callable[[Row], None]
"""Takes a row as soon as it is measured."""
NAME: Final = "name"


class Measure(Protocol):
    """Measures a part on a device and gives its rows one by one, without those that are `done`. Returns what was left out, a
    sentence each with its reason."""

    def __call__(self, device: Any, size: Size, emit: Emit, done: Collection[str] = ()) -> tuple[str, ...]: ...


def number(row: Mapping[str, Any], column: str) -> float:
    """A row's number; NaN: the cell is empty."""
    text = row.get(column)
    return float("nan") if text in (None, "") else float(text)  # type: ignore[arg-type]


def by_name(rows: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Name → row; of two of a name the later one."""
    return {str(row[NAME]): row for row in rows}


def told(error: BaseException) -> str:
    """An error in one short line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
