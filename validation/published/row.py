"""One row of a table of published measurements, with the columns of published_cases.csv; an empty cell is "not stated"."""

from __future__ import annotations

import csv
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from hwprofiles.problems import show
from hwprofiles.units import MEBI
from simulator.errors import InputError, Problem

REQUIRED = ("case_id", "model", "gpu", "n_gpus", "precision")
_NUMBER: Final = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
"""A plain number: no thousands separator, no unit, no NaN."""
LONGEST: Final = MEBI
"""Characters that a cell may have."""
OTHER_SEPARATORS: Final = {";": "semicolons", "\t": "tabs"}


@dataclass(frozen=True)
class Row:
    """The cells of one row as texts. surplus: cells beyond the header's columns; is_repeated: a row before it in the file has
    its case_id; line: of the file, where the row ends.
    """

    cells: Mapping[str, str]
    surplus: tuple[str, ...] = ()
    is_repeated: bool = False
    line: int = 0

    def text(self, column: str) -> str:
        """The cell without blanks around it; "" where it is empty or the file has no such column."""
        return self.cells.get(column, "").strip()

    def number(self, column: str) -> float | None:
        """The cell as a number; None where it is none, or beyond the range of floats (1e999)."""
        text = self.text(column)
        value = float(text) if _NUMBER.fullmatch(text) else math.nan
        return value if math.isfinite(value) else None

    def count(self, column: str) -> int | None:
        """The cell as a whole number; None where it is none."""
        value = self.number(column)
        return int(value) if value is not None and value.is_integer() else None

    def replicas(self) -> int | None:
        """dp, or what n_gpus, tp, pp and cp leave of it; None where they do not say."""
        given = self.count("dp")
        degrees = [self.count("tp"), self.count("pp"), self.count("cp") if self.text("cp") else 1]
        if given is not None or self.count("n_gpus") is None or not all(degrees):
            return given
        return (self.count("n_gpus") or 0) // math.prod(degree for degree in degrees if degree) or None

    @property
    def is_moe(self) -> bool:
        """Whether it has experts."""
        return bool(self.count("experts"))

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

    Raises InputError: not readable, not UTF-8, a quote that never ends, or a header that is not such a table's.
    """
    where = show(path.name)[1:-1]
    before = csv.field_size_limit(LONGEST)
    line = 0
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            header = reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
            problems = [Problem(f"{where}:1", "", text) for text in _of_header(header)]
            if problems:
                raise InputError(problems)
            seen: set[str] = set()
            rows = []
            for cells in reader:
                line = reader.line_num
                rows.append(_row(cells, seen, line))
            return rows
    except UnicodeDecodeError:
        raise InputError([Problem(where, "", "is not UTF-8; save it as CSV in UTF-8")]) from None
    except OSError as error:
        text = f"cannot be read ({error.strerror or error}); give a CSV with measured runs"
        raise InputError([Problem(where, "", text)]) from None
    except csv.Error as error:
        text = f"cannot be read as CSV ({error}); close every quote, and double those inside a cell"
        raise InputError([Problem(f"{where}:{line + 1}", "", text)]) from None
    finally:
        csv.field_size_limit(before)


def _of_header(names: Sequence[str]) -> Iterator[str]:
    """What is wrong with the first line."""
    missing = [column for column in REQUIRED if column not in names]
    if missing:
        others = [word for sign, word in OTHER_SEPARATORS.items() if len(names) == 1 and sign in names[0]]
        remedy = f"separate cells by commas, not {others[0]}" if others else "see the columns of published_cases.csv"
        yield f"has no column {', '.join(missing)}; {remedy}"
    twice = [name for name, count in Counter(filter(None, names)).items() if count > 1]
    if twice:
        yield f"has the column {', '.join(map(show, twice))} twice; leave one of them out"


def _row(cells: dict[str | None, str | list[str] | None], seen: set[str], line: int) -> Row:
    """A row of the reader; `seen` gathers the case_ids."""
    surplus = cells.pop(None, None)
    texts = {key: value if isinstance(value, str) else "" for key, value in cells.items() if key}
    name = texts.get("case_id", "").strip()
    is_repeated = bool(name) and name in seen
    seen.add(name)
    return Row(texts, tuple(surplus) if isinstance(surplus, list) else (), is_repeated, line)
