"""What a change moved: a document of `moesim validate --cases FILE --json` of before, beside the rows of now."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from simulator.errors import InputError, Problem
from validation.instrument.document import summary
from validation.instrument.outcome import Outcome

OPTION: Final = "--compare"
FIGURES: Final = ("mape", "p90", "bias", "coverage_90", "half_width", "interval_score")
MOVED: Final = 5e-4
"""Relative change of a prediction from which on it counts as moved: half a permille."""


def read_old(path: Path) -> dict[str, Any]:
    """The document. Raises InputError: cannot be read, no JSON, or not such a document."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise _bad(path, f"cannot be read ({error})") from None
    except (json.JSONDecodeError, RecursionError) as error:
        raise _bad(path, f"is no JSON ({error})") from None
    problem = _problem(found)
    if problem:
        raise _bad(path, problem)
    return dict(found)


def _bad(path: Path, text: str) -> InputError:
    advice = "give a file that `moesim validate --cases FILE.csv --json` wrote"
    return InputError([Problem("", OPTION, f"{path} {text}; {advice}")])


def _problem(found: Any) -> str:
    """What is wrong with a document; "" for nothing."""
    if not isinstance(found, dict) or not isinstance(found.get("cases"), list):
        return "has no list of cases"
    for place, case in enumerate(found["cases"]):
        if not isinstance(case, dict) or not isinstance(case.get("case_id"), str):
            return f"names no case_id in its case {place}"
        value = case.get("predicted")
        if value is not None and not _is_figure(value):
            return f"says that {case['case_id']} is predicted {value!r}, which is no number above 0"
    groups = _groups(found)
    if groups is None or not all(_is_summary(each) for each in groups.values()):
        return "has no summary with its groups"
    return "" if _are_pairs(found["summary"].get("pairs", {})) else "lists pairs of rows that are none"


def _are_pairs(told: Any) -> bool:
    """Whether a document's part about pairs, which older ones have not, is one."""
    if not isinstance(told, dict) or not isinstance(told.get("wrong", []), list):
        return False
    figures = [told[name] for name in ("n", "right") if told.get(name) is not None]
    return all(isinstance(each, dict) for each in told.get("wrong", [])) and all(
        isinstance(value, int | float) and math.isfinite(value) for value in figures
    )


def _is_figure(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0


def _is_summary(group: Mapping[str, Any]) -> bool:
    values = [group.get(name, 0.0) for name in ("n", *FIGURES)]
    return all(isinstance(value, int | float) and math.isfinite(value) for value in values)


def _groups(document: Mapping[str, Any]) -> dict[tuple[str, str], Mapping[str, Any]] | None:
    """("by", value) → figures, the whole under ("all", "rows"); None where the document has no such lists."""
    whole = document.get("summary")
    if not isinstance(whole, dict) or not isinstance(whole.get("by_group"), list):
        return None
    if not all(isinstance(each, dict) for each in whole["by_group"]):
        return None
    groups = {(str(each.get("by")), str(each.get("value"))): each for each in whole["by_group"]}
    return {("all", "rows"): {**whole, "n": whole.get("eligible", 0)}, **groups}


def compared(old: Mapping[str, Any], rows: Sequence[Outcome]) -> dict[str, Any]:
    """moved: rows whose prediction changed by more than MOVED (change_frac: of the step's time), the most changed first.

    gained, lost: rows that are predicted now and were not, and the other way round, with the reason. only_old, only_new: rows
    that one of the two files has; of a case_id that is there twice the first counts. other_quantity: rows whose figure was
    read from another column. groups: figures of the summaries before and after, None where a group had no row, or an older
    document no such figure. pairs: see `_moved_pairs`.
    """
    told = summary(rows)
    before = {case["case_id"]: case for case in reversed(old["cases"])}
    now = {row.case_id: row for row in reversed(rows)}
    both = [(before[name], row) for name, row in reversed(now.items()) if name in before]
    predicted = [(case, row) for case, row in both if row.figure is not None and case.get("predicted") is not None]
    moved = [_moved(case, row) for case, row in predicted if _is_alike(case, row)]
    return {
        "moved": sorted(
            (each for each in moved if abs(each["change_frac"]) > MOVED), key=lambda each: -abs(each["change_frac"])
        ),
        "gained": [
            {"case_id": row.case_id, "was": case.get("skipped_because")}
            for case, row in both
            if row.figure is not None and case.get("predicted") is None
        ],
        "lost": [
            {"case_id": row.case_id, "because": row.skipped_because}
            for case, row in both
            if row.figure is None and case.get("predicted") is not None
        ],
        "only_old": [name for name in reversed(before) if name not in now],
        "only_new": [name for name in reversed(now) if name not in before],
        "other_quantity": [row.case_id for case, row in predicted if not _is_alike(case, row)],
        "groups": _moved_groups(_groups(old) or {}, _groups({"summary": told}) or {}),
        "pairs": _moved_pairs(old["summary"].get("pairs", {}), told["pairs"]),
    }


def _moved_pairs(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """n and share right, before and now; newly_wrong, newly_right: pairs ("first, second") that only the document of now, only
    the older one lists as wrong. None and nothing where the older document has no pairs.
    """
    wrong = [[f"{each.get('first')}, {each.get('second')}" for each in told.get("wrong", ())] for told in (old, new)]
    return {
        "n": [old.get("n"), new["n"]],
        "right": [old.get("right"), new["right"]],
        "newly_wrong": [name for name in wrong[1] if name not in wrong[0]] if old else [],
        "newly_right": [name for name in wrong[0] if name not in wrong[1]],
    }


def _is_alike(case: Mapping[str, Any], row: Outcome) -> bool:
    """Whether both predicted figures are of one column."""
    return bool(case.get("quantity", row.quantity) == row.quantity)


def _moved(case: Mapping[str, Any], row: Outcome) -> dict[str, Any]:
    assert row.figure is not None
    old, new = float(case["predicted"]), row.figure.predicted
    change = new / old if row.is_time else old / new
    error = row.time_ratio[0]
    return {
        "case_id": row.case_id, "quantity": row.quantity, "before": old, "after": new, "change_frac": change - 1.0,
        "step_error_before": error / change - 1.0, "step_error_after": error - 1.0,
    }  # fmt: skip


def _moved_groups(
    old: Mapping[tuple[str, str], Mapping[str, Any]], new: Mapping[tuple[str, str], Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """A line a group of either, those of now first."""
    names = [*new, *(name for name in old if name not in new)]
    return [
        {
            "by": by,
            "value": value,
            "n": [each.get((by, value), {}).get("n", 0) for each in (old, new)],
            **{key: [each.get((by, value), {}).get(key) for each in (old, new)] for key in FIGURES},
        }
        for by, value in names
    ]
