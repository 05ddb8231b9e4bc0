"""The accuracy file that is shipped with the product: predicted beside measured, of the case files and of published runs.

simulator/report/data/accuracy.csv is written by `moesim validate --write`, and its published rows by
`moesim validate --write --published FILE.csv`, where FILE.csv has the columns of `published_cases.csv`; of that file only what
is needed to show an error is kept. Rows that were not asked for again stay as they are. Same input, same bytes.
"""

from __future__ import annotations

import csv
import io
import multiprocessing
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, fields
from pathlib import Path
from typing import Final

from simulator.errors import InputError
from simulator.report.accuracy import AccuracyRow
from validation.case import case_names
from validation.compare import Row
from validation.published.prediction import predicted
from validation.published.row import Row as PublishedRow
from validation.published.row import read_rows

COLUMNS: Final = tuple(each.name for each in fields(AccuracyRow))
FIGURES: Final = ("predicted", "low", "high", "measured", "error_frac")
DIGITS: Final = 6
"""Significant digits of a figure."""
NUM_PROCESSES: Final = 2
CHUNK: Final = 4
"""Rows that a process gets at a time."""
PUBLISHED: Final = "published"

Cells = Mapping[str, str]


def published_rows(path: Path) -> list[Row]:
    """The rows of a file that can be stated as they were run and give a speed, predicted; the file's order.

    About a second a row, in NUM_PROCESSES processes. Raises InputError: not readable, or not one such row.
    """
    return rows_of(read_rows(path), str(path))


def rows_of(given: Sequence[PublishedRow], name: str) -> list[Row]:
    """`published_rows` of rows that were read. name: of their file, for messages."""
    found: Iterable[Row | None]
    if len(given) < CHUNK:
        found = map(predicted, given)
    else:
        with ProcessPoolExecutor(NUM_PROCESSES, mp_context=multiprocessing.get_context("spawn")) as pool:
            found = list(pool.map(predicted, given, chunksize=CHUNK))
    rows = [row for row in found if row is not None]
    if not rows:
        text = "no row can be stated as it was run and gives a speed; `python -m validation.statable` says why of each"
        raise InputError(f"{name}: {text}")
    return rows


def accuracy_row(row: Row) -> AccuracyRow:
    """The row as the accuracy file has it."""
    return AccuracyRow(
        row.case_id, row.stack, row.reading, row.group.gpu, row.group.model, row.kind, row.quantity, row.predicted, row.low,
        row.high, row.measured, row.error_frac, row.source, row.note,
    )  # fmt: skip


def cells_of(row: Row) -> dict[str, str]:
    """The texts of a line, by column."""
    found = asdict(accuracy_row(row))
    return {name: f"{value:.{DIGITS}g}" if name in FIGURES else str(value) for name, value in found.items()}


def merged(old: Iterable[Cells], new: Sequence[Row]) -> list[Cells]:
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
