"""A measured document as a table: FILE.csv with a row a call, and FILE.yaml beside it. No torch."""

from __future__ import annotations

import json
from dataclasses import make_dataclass
from pathlib import Path
from typing import Any, Final

from hwprofiles.calibration.command import write_table
from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.calibration.kernel_bench.rows import COLUMNS
from hwprofiles.problem import Problem

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
    """Raises CalibrationError: no such document, or nothing can be written."""
    found = read(source)
    cell = make_dataclass("Cell", list(COLUMNS))
    rows = [cell(**{name: "" if row.get(name) is None else row[name] for name in COLUMNS}) for row in found["rows"]]
    facts = {name: found["device"][name] for name in FACTS if found["device"].get(name)}
    facts["made_by"] = "python -m hwprofiles.calibration.kernel_bench"
    facts["source"] = {"kind": "measurement", "where": "own measurement, one GPU", "date": found.get("date", "")}
    write_table(out, rows, facts, COLUMNS)
