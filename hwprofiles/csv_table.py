"""A CSV table of measurements: fixed columns, one record a row, every problem of the file at once with its line."""

from __future__ import annotations

import csv
from collections.abc import Callable, Collection, Hashable, Mapping
from pathlib import Path
from typing import TypeVar

from hwprofiles.problem import Problem
from hwprofiles.record_file import CatalogError
from hwprofiles.yaml_file import excerpt

Row = TypeVar("Row")
Cells = Mapping[str, str]
"""Column → text without blanks around it; empty where it does not apply."""


def read_table(
    path: Path,
    columns: Collection[str],
    parse: Callable[[Cells], Row],
    same: Callable[[Row], Hashable],
    optional: Collection[str] = (),
) -> tuple[Row, ...]:
    """The rows of a CSV file with these columns in any order; those of `optional` may be missing, and are then empty.

    parse: raises ValueError ("field: value; allowed …") for a row that cannot be. same: two rows with an equal answer are
    one measurement twice. Raises CatalogError: not UTF-8, other columns, a bad row or a row twice.
    """
    shown = excerpt(path, 200)
    rows: list[Row] = []
    problems: list[Problem] = []
    first_line: dict[Hashable, int] = {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            wrong_header = _header_problem(reader.fieldnames, columns, optional)
            if wrong_header:
                raise CatalogError([Problem(f"{shown}:1", "", wrong_header)])
            for cells in reader:
                line = reader.line_num
                try:
                    row = parse({**dict.fromkeys(optional, ""), **_stripped(cells)})
                    first = first_line.setdefault(same(row), line)
                    if first != line:
                        raise ValueError(f"the measurement of line {first} again; keep one")
                    rows.append(row)
                except ValueError as error:
                    problems.append(Problem(f"{shown}:{line}", "", excerpt(error, 600)))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CatalogError([Problem(shown, "", f"the file cannot be read: {excerpt(error, 200)}")]) from None
    if problems:
        raise CatalogError(problems)
    return tuple(rows)


def _header_problem(found: Collection[str] | None, columns: Collection[str], optional: Collection[str]) -> str | None:
    """What is wrong with the header; None where nothing is."""
    missing, unknown = set(columns) - set(found or ()), set(found or ()) - {*columns, *optional}
    return f"columns missing {sorted(missing)}, unknown {sorted(unknown)}" if missing or unknown else None


def _stripped(cells: Mapping[str | None, str | None]) -> dict[str, str]:
    """Raises ValueError for a row that is longer or shorter than the header."""
    given = {key: text.strip() for key, text in cells.items() if key is not None and text is not None}
    if len(given) != len(cells):
        raise ValueError("the number of cells differs from the header's")
    return given
