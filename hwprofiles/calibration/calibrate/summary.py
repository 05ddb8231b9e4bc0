"""What is said at the end: a table a class, what was left out and why. No torch here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from hwprofiles.calibration.calibrate import compare
from hwprofiles.calibration.calibrate.session import Outcome


def document(outcome: Outcome) -> dict[str, Any]:
    """The summary as one document; its classes are the parts of points.csv, other tables their names."""
    parts = sorted({row["part"] for row in outcome.points})
    classes = [_class(name, [row for row in outcome.points if row["part"] == name]) for name in parts]
    return {
        "gpu": outcome.gpu.name,
        "gpu_is_known": outcome.is_known,
        "classes": classes,
        "other": dict(outcome.other),
        "num_kernel_rows": outcome.written.num_rows,
        "parameters": dict(outcome.written.parameters),
        "fit": list(outcome.written.judged),
        "left_out": [*_left_out(outcome.points), *outcome.written.left_out, *outcome.left_out],
    }


def lines(told: Mapping[str, Any]) -> list[str]:
    """The document for people."""
    text = [f"{'class':<12}{'kernels':>9}{'not run':>9}{'doubtful':>10}{'spread':>9}"]
    text += [
        f"{entry['class']:<12}{entry['kernels']:>9}{entry['not_run']:>9}{entry['doubtful']:>10}{100 * entry['spread']:>8.1f}%"
        for entry in told["classes"]
    ]
    text += [f"{name:<12}{number:>9}" for name, number in told["other"].items()]
    text += [f"fit: {line}" for line in told["fit"]]
    text += [f"left out: {line}" for line in told["left_out"]]
    if "repeat" in told:
        text += ["", "beside the earlier calibration:", *compare.lines(told["repeat"]), ""]
    known = told["gpu"] if told["gpu_is_known"] else f"{told['gpu']} (not in the catalogue: gpu.yaml describes it)"
    rows = f"{told['num_kernel_rows']} rows, {sum(told['parameters'].values())} parameters"
    return [*text, f"wrote {told['folder']}: a stack of {known}, {rows}"]


def _class(name: str, rows: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    good = [row for row in rows if row["seconds"]]
    spreads = [(float(row["high"]) - float(row["low"])) / float(row["seconds"]) for row in good]
    return {
        "class": name,
        "kernels": sum(row["state"] == "first_launches" for row in good),
        "not_run": len(rows) - len(good),
        "doubtful": sum(bool(row["note"]) for row in good if row["state"] == "first_launches"),
        "spread": median(spreads) if spreads else 0.0,
    }


def _left_out(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """A line a reason, with the number of kernels that it kept from being measured."""
    reasons = Counter(
        f"{row['op']} {row['dtype']} {row['library']}: {row['note']}" for row in rows if not row["seconds"]
    )
    return [f"{reason} ({count} kernels)" if count > 1 else reason for reason, count in sorted(reasons.items())]
