"""Numbers of points.csv that somebody or something spoiled, found before they are used. No torch here."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.problem import Problem
from hwprofiles.yaml_file import excerpt

MAX_TOLD: Final = 5
"""Lines of a table that are named; of a table spoiled throughout they say enough."""
WHOLE: Final = (
    "m", "n", "k", "groups", "batch", "seq", "heads", "kv_heads", "head_dim_qk", "head_dim_v", "launches", "sms",
)  # fmt: skip
ABOVE_ZERO: Final = ("bytes", "flop", "seconds", "low", "high")
TIMES: Final = ("seconds", "low", "high")


def check_points(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """rows: of points.csv as text. Raises CalibrationError: a cell that is no number, with its line and column."""
    problems = [
        Problem(f"{path}:{line}", column, f'{what} ("{excerpt(row[column], 40)}"); {_REMEDY}')
        for line, row in enumerate(rows, 2)
        for column, what in _wrong(row)
    ]
    if problems:
        more = [Problem(str(path), "", f"{len(problems) - MAX_TOLD} more such cells")] if problems[MAX_TOLD:] else []
        raise CalibrationError([*problems[:MAX_TOLD], *more])


_REMEDY: Final = "take both lines of this kernel out, which the same command then measures again"


def _wrong(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(column, what is wrong) of a row. A kernel that did not run has no times; one that ran has all three."""
    ran = any(row.get(name) for name in TIMES)
    for columns, may_be, what in _RULES:
        for name in columns:
            needed = name == "at_s" or (ran and name in TIMES)
            if name in row and (row[name] or needed) and not may_be(str(row[name])):
                yield name, what


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


_RULES: Final[tuple[tuple[tuple[str, ...], Callable[[str], bool], str], ...]] = (
    (WHOLE, lambda text: text.isascii() and text.isdigit(), "is no whole number"),
    (ABOVE_ZERO, lambda text: 0.0 < _number(text) < math.inf, "is no number above 0"),
    (("at_s",), lambda text: 0.0 <= _number(text) < math.inf, "is no number of seconds"),
)
