"""python -m validation.statable FILE.csv [--json]: which published rows can be stated as they were run, and why others not.

No key that a row gives is changed; what it does not give is listed as assumed, with the value taken.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from simulator.errors import InputError
from validation.published.draft import REASONS
from validation.published.row import read_rows
from validation.published.state import Statement, state


def document(statements: Sequence[Statement]) -> dict[str, Any]:
    """Counts by reason, and every row. alone: rows that only this reason holds back."""
    refused = [each for each in statements if each.scenario is None]
    rows = Counter(reason for each in refused for reason in each.missing)
    alone = Counter(next(iter(each.missing)) for each in refused if len(each.missing) == 1)
    return {
        "rows": len(statements),
        "statable": len(statements) - len(refused),
        "reasons": [
            {"reason": reason, "missing": kind, "rows": rows[reason], "alone": alone[reason]}
            for reason, kind in REASONS.items()
            if rows[reason]
        ],
        "cases": [_case(each) for each in statements],
    }


def _case(each: Statement) -> dict[str, Any]:
    return {
        "case_id": each.case_id,
        "statable": each.scenario is not None,
        "missing": dict(each.missing),
        "assumed": [{"key": key.key, "value": key.value, "why": key.why} for key in each.assumed],
        "beside": list(each.beside),
        "framework": each.framework,
        "completeness": each.completeness,
        "labels": dict(each.labels),
        "read": [{"column": key.key, "value": key.value, "source": key.why} for key in each.read],
        "problems": list(each.problems),
        "scenario": each.source if each.scenario is not None else None,
    }


def show(told: dict[str, Any]) -> None:
    """The same as text."""
    print(f"{told['statable']} of {told['rows']} rows can be stated as they were run")
    for reason in told["reasons"]:
        print(f"  {reason['rows']:4d}  {reason['reason']} ({reason['missing']} missing; alone in {reason['alone']})")
    for case in told["cases"]:
        why = "; ".join(f"{reason}: {detail}" if detail else reason for reason, detail in case["missing"].items())
        assumed = ", ".join(f"{key['key']}={key['value']}" for key in case["assumed"])
        beside = f" ({'; '.join(case['beside'])})" if case["beside"] else ""
        print(f"{case['case_id']}: {f'assumed {assumed}{beside}' if case['statable'] else why}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0, or 2 for a file that cannot be read."""
    parser = argparse.ArgumentParser(prog="python -m validation.statable", description=__doc__)
    parser.add_argument("file", type=Path, help="CSV with the columns of published_cases.csv")
    parser.add_argument("--precision", default="", help="only rows whose precision holds one of these words, by commas")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    given = parser.parse_args(arguments)
    try:
        rows = read_rows(given.file)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    words = [word for word in given.precision.lower().split(",") if word]
    chosen = [row for row in rows if not words or any(word in row.text("precision").lower() for word in words)]
    told = document([state(row) for row in chosen])
    try:
        if given.json:
            print(json.dumps(told, indent=1, ensure_ascii=False))
        else:
            show(told)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(main())
