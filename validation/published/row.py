"""One row of a table of published measurements, with the columns of published_cases.csv; an empty cell is "not stated"."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from simulator.errors import InputError

REQUIRED = ("case_id", "model", "gpu", "n_gpus", "precision")
_NUMBER: Final = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
"""A plain number: no thousands separator, no unit, no NaN."""


@dataclass(frozen=True)
class Row:
    """The cells of one row as texts. surplus: cells beyond the header's columns; is_repeated: a row before it in the file has
    its case_id.
    """

    cells: Mapping[str, str]
    surplus: tuple[str, ...] = ()
    is_repeated: bool = False

    def text(self, column: str) -> str:
        """The cell without blanks around it; "" where it is empty or the file has no such column."""
        return self.cells.get(column, "").strip()

    def number(self, column: str) -> float | None:
        """The cell as a number; None where it is none."""
        text = self.text(column)
        return float(text) if _NUMBER.fullmatch(text) else None

    def count(self, column: str) -> int | None:
        """The cell as a whole number; None where it is none."""
        value = self.number(column)
        return int(value) if value is not None and value.is_integer() else None

    def prose(self) -> str:
        """Framework, detail of the source and notes, one after another, in lower case."""
        return " | ".join(self.text(column) for column in ("notes", "source_detail", "framework")).lower()

    def says(self, *words: str) -> bool:
        """Whether notes, detail of the source or framework hold one of the words (lower case)."""
        prose = self.prose()
        return any(word in prose for word in words)

    def with_cells(self, cells: Mapping[str, str]) -> Row:
        """The row with other values in some cells."""
        return replace(self, cells={**self.cells, **cells})


def read_rows(path: Path) -> list[Row]:
    """The rows of a CSV file; columns beyond REQUIRED may be missing, others are ignored. A byte order mark is allowed.

    Raises InputError: not readable, or without the columns of REQUIRED.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
            missing = [column for column in REQUIRED if column not in reader.fieldnames]
            if missing:
                raise InputError(f"{path}: has no column {', '.join(missing)}; see the columns of published_cases.csv")
            seen: set[str] = set()
            return [_row(cells, seen) for cells in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None


def _row(cells: dict[str | None, str | list[str] | None], seen: set[str]) -> Row:
    """A row of the reader; `seen` gathers the case_ids."""
    surplus = cells.pop(None, None)
    texts = {key: value if isinstance(value, str) else "" for key, value in cells.items() if key}
    name = texts.get("case_id", "").strip()
    is_repeated = bool(name) and name in seen
    seen.add(name)
    return Row(texts, tuple(surplus) if isinstance(surplus, list) else (), is_repeated)
