"""A table of the instrument: the terminal and Markdown show the same ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from simulator.report import numbers

Cells = tuple[str, ...]

NUM_MOVED: Final = 20
"""Rows of each kind that a list of rows shows."""
NO_FIGURE: Final = "–"


@dataclass(frozen=True)
class Table:
    """A title, what the columns mean, headers and rows; the first column to the left, the others to the right.

    spare: columns that may fall away where there is little room; left: columns of words, which Markdown has to the left too.
    """

    title: str
    headers: Cells
    rows: Sequence[Cells]
    note: str = ""
    spare: tuple[int, ...] = ()
    left: tuple[int, ...] = ()


def share(value: float | None) -> str:
    """A share in percent; NO_FIGURE of nothing."""
    return NO_FIGURE if value is None else numbers.percent(value)
