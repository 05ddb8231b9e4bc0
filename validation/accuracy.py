"""The accuracy file that is shipped with the product: predicted beside measured, of the case files and of published runs.

simulator/report/data/accuracy.csv is written by `moesim validate --write`, and its published rows by
`moesim validate --write --cases FILE.csv`, where FILE.csv has the columns of `published_cases.csv`; of that file only what
is needed to show an error is kept. Rows that were not asked for again stay as they are. Same input, same bytes.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Final

from simulator.report.accuracy import AccuracyRow
from validation.case import case_names
from validation.compare import Row
from validation.instrument.outcome import PATHS, Outcome

COLUMNS: Final = tuple(each.name for each in fields(AccuracyRow))
FIGURES: Final = ("predicted", "low", "high", "measured", "error_frac")
DIGITS: Final = 6
"""Significant digits of a figure."""
CASE: Final = "case"
PUBLISHED: Final = "published"
READING: Final = "step"
"""A speed of a whole step names no rank."""

Cells = Mapping[str, str]


def case_line(row: Row) -> AccuracyRow:
    """A figure of a case file as the accuracy file has it."""
    return AccuracyRow(
        row.case_id, row.stack, row.reading, row.group.gpu, row.group.model, CASE, row.quantity, row.predicted, row.low,
        row.high, row.measured, row.error_frac, row.source, row.note,
    )  # fmt: skip


def run_line(row: Outcome) -> AccuracyRow:
    """A measured run as the accuracy file has it. Raises ValueError where nothing is predicted."""
    found, error = row.figure, row.error_frac
    if found is None or error is None:
        raise ValueError(f"{row.case_id}: nothing is predicted")
    return AccuracyRow(
        row.case_id, row.stack, READING, str(row.group["gpu"]), str(row.group["model"]), PUBLISHED, PATHS[row.quantity],
        found.predicted, found.low, found.high, found.measured, error, row.source, row.note,
    )  # fmt: skip


def cells_of(line: AccuracyRow) -> dict[str, str]:
    """The texts of a line, by column."""
    return {name: f"{value:.{DIGITS}g}" if name in FIGURES else str(value) for name, value in asdict(line).items()}


def merged(old: Iterable[Cells], new: Sequence[AccuracyRow]) -> list[Cells]:
    """Lines of the file: those of `new`, and of `old` whatever was not predicted anew.

    A case's lines are replaced together, the published ones too; case files first, by name, one that is no more left out.
    """
    made = [cells_of(row) for row in new]
    groups = {cells["group"] for cells in made}
    names = {cells["case"] for cells in made}
    kept = [
        cells for cells in old
        if (cells["group"] == PUBLISHED and PUBLISHED not in groups)
        or (cells["group"] != PUBLISHED and cells["case"] not in names)
    ]  # fmt: skip
    lines = [*made, *kept]
    cases = [cells for name in case_names() for cells in lines if cells["group"] != PUBLISHED and cells["case"] == name]
    return [*cases, *(cells for cells in lines if cells["group"] == PUBLISHED)]


def read_table(path: Path) -> list[Cells]:
    """The lines of the accuracy file; none where there is no such file or it has other columns."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        return list(reader) if tuple(reader.fieldnames or ()) == COLUMNS else []


def table_text(lines: Iterable[Cells]) -> str:
    """The file's text."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()
