"""`moesim validate`: predicted beside what was published or measured."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from simulator.cli.output import print_json, write_atomically
from simulator.errors import InputError, Problem

ACCURACY = Path(__file__).parent.parent / "report" / "data" / "accuracy.csv"


def validate_cases(names: Sequence[str], as_json: bool, write: bool, published: Path | None = None) -> None:
    """Compare the named cases (default: all) and print a table, or one JSON document.

    write: also into simulator/report/data/accuracy.csv, the committed accuracy table; what was not compared stays there.
    published: a table of published runs, of which those that can be stated as they were run are compared too; without names
    they alone are. Raises InputError for an unknown case or a table that cannot be read.
    """
    from validation.accuracy import merged, published_rows, read_table, table_text
    from validation.case import case_names, load_case
    from validation.compare import as_json as document
    from validation.compare import compare_case

    if published is not None and not published.is_file():
        raise InputError([Problem("", "--published", f"{published} is no file; give a CSV with published runs")])
    cases = [load_case(name) for name in names or (() if published else case_names())]
    rows = [row for case in cases for row in compare_case(case)]
    if published is not None:
        rows += published_rows(published)
    if write:
        write_atomically(ACCURACY, table_text(merged(read_table(ACCURACY), rows)))
    if as_json:
        print_json(document(rows))
        return
    from validation.table import print_published, print_table

    for case in cases:
        print_table(case, [row for row in rows if row.case_id == case.case_id], sys.stdout)
    print_published([row for row in rows if row.kind == "published"], sys.stdout)
