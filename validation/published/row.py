"""One row of a table of published measurements, with the columns of published_cases.csv; an empty cell is "not stated"."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from simulator.errors import InputError

REQUIRED = ("case_id", "model", "gpu", "n_gpus", "precision")


@dataclass(frozen=True)
class Row:
    """The cells of one row as texts."""

    cells: Mapping[str, str]

    def text(self, column: str) -> str:
        """The cell without blanks around it; "" where it is empty or the file has no such column."""
        return self.cells.get(column, "").strip()

    def number(self, column: str) -> float | None:
        """The cell as a number; None where it is none."""
        try:
            return float(self.text(column))
        except ValueError:
            return None

    def count(self, column: str) -> int | None:
        """The cell as a whole number; None where it is none."""
        value = self.number(column)
        return int(value) if value is not None and value.is_integer() else None

    def says(self, *words: str) -> bool:
        """Whether notes, detail of the source or framework hold one of the words (lower case)."""
        prose = " | ".join(self.text(column) for column in ("notes", "source_detail", "framework")).lower()
        return any(word in prose for word in words)


def read_rows(path: Path) -> list[Row]:
    """The rows of a CSV file. Raises InputError: not readable, or without the columns of REQUIRED."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = [column for column in REQUIRED if column not in (reader.fieldnames or ())]
            if missing:
                raise InputError(f"{path}: has no column {', '.join(missing)}; see the columns of published_cases.csv")
            return [Row({key: value or "" for key, value in cells.items() if key}) for cells in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None
