"""`moesim validate`: predicted beside what was published or measured."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Sequence
from pathlib import Path

from simulator.cli.output import print_json, write_atomically

ACCURACY = Path(__file__).parent.parent / "report" / "data" / "accuracy.csv"


def validate_cases(names: Sequence[str], as_json: bool, write: bool) -> None:
    """Compare the named cases (default: all) and print a table, or one JSON document.

    write: also into simulator/report/data/accuracy.csv, the committed accuracy table.
    Raises InputError for an unknown case.
    """
    from validation.case import case_names, load_case
    from validation.compare import as_json as document
    from validation.compare import compare_case

    cases = [load_case(name) for name in names or case_names()]
    rows = [row for case in cases for row in compare_case(case)]
    if write:
        write_atomically(ACCURACY, _csv(rows))
    if as_json:
        print_json(document(rows))
        return
    from validation.table import print_table

    for case in cases:
        print_table(case, [row for row in rows if row.case_id == case.case_id], sys.stdout)


def _csv(rows: Sequence[object]) -> str:
    columns = (
        "case_id",
        "stack",
        "quantity",
        "reading",
        "predicted",
        "low",
        "high",
        "measured",
        "error_frac",
        "source",
    )
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        values = [getattr(row, column) for column in columns]
        writer.writerow([f"{value:.6g}" if isinstance(value, float) else value for value in values])
    return text.getvalue()
