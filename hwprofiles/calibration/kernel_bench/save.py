"""A measured document as a table: FILE.csv with a row a call, and FILE.yaml beside it. No torch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import make_dataclass
from pathlib import Path
from typing import Any, Final

from hwprofiles.calibration.command import write_table
from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.calibration.kernel_bench.rows import COLUMNS
from hwprofiles.problem import Problem

ERRORS: Final[Mapping[str, str]] = {
    "variant": "fprop, dgrad or wgrad",
    "what": "kernel and result, held to float64 of its very operands; or a number format, to float64 of the numbers before",
    "checks": "products of odd sizes, empty groups, few SMs",
    "error": "the worst ||out - truth|| / ||truth||",
    "bound": "kernel_bench/correct.py says why",
}
RESULTS: Final = {"bf16": "BF16 out", "fp32": "FP32 out", "added": "added to FP32"}
FACTS: Final = ("device", "driver", "power_limit_w", "torch", "cuda", "clock_hz")


def read(path: Path) -> dict[str, Any]:
    """A document of the bench. Raises CalibrationError: it is none."""
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if not (isinstance(found["rows"], list) and isinstance(found["device"], dict)):
            raise ValueError("no rows, or no device")
    except (OSError, ValueError, KeyError, TypeError) as error:
        text = f"is no result of the bench ({error}); `python -m hwprofiles.calibration.kernel_bench -o` writes one"
        raise CalibrationError([Problem(str(path), "", text)]) from None
    return found


def save_table(source: Path, out: Path) -> None:
    """The times; of a document of errors alone these. Raises CalibrationError: no such document, or nothing can be written."""
    found = read(source)
    columns = COLUMNS if found["rows"] else ERRORS
    cell = make_dataclass("Cell", list(columns))
    given = found["rows"] or list(_errors(found))
    rows = [cell(**{name: "" if row.get(name) is None else row[name] for name in columns}) for row in given]
    facts = {name: found["device"][name] for name in FACTS if found["device"].get(name)}
    facts["made_by"] = "python -m hwprofiles.calibration.kernel_bench"
    facts["source"] = {"kind": "measurement", "where": "own measurement, one GPU", "date": found.get("date", "")}
    write_table(out, rows, facts, columns)


def _errors(found: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The worst of each pass, kernel and result, then of each format."""
    worst: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in found.get("correct", ()):
        worst.setdefault((row["variant"], f"{row['kernel']}, {RESULTS[row['out']]}"), []).append(row)
    for row in found.get("formats", ()):
        worst.setdefault((row["variant"], f"format {row['format']}, of the numbers before they are cast"), []).append(
            row
        )
    for (variant, what), rows in worst.items():
        most = max(rows, key=lambda row: float(row["error"]))
        yield {"variant": variant, "what": what, "checks": len(rows), "error": most["error"], "bound": most["bound"]}
