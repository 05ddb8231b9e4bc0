"""Two calibrations of one GPU side by side: how far the same kernel's seconds are apart. No torch here.

python -m hwprofiles.calibration compare DIR OTHER [--json]
"""

from __future__ import annotations

import csv
import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

from hwprofiles.calibration.calibrate.damage import check_points
from hwprofiles.calibration.calibrate.folder import POINTS
from hwprofiles.calibration.calibrate.plan import key_of
from hwprofiles.calibration.calibrate.store import FLAGGED
from hwprofiles.calibration.command import Parser, guarded
from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.problem import Problem

ALL: Final = "all"
TAIL: Final = 0.9
Key = tuple[str, ...]


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints a line a class. Exit code 0; 2 for folders that hold no points, or none in common."""
    return guarded("compare", lambda: _main(arguments))


def _main(arguments: Sequence[str] | None) -> int:
    parser = Parser(prog="python -m hwprofiles.calibration compare", description="How far two calibrations are apart.")
    parser.add_argument("first", type=Path, metavar="DIR")
    parser.add_argument("second", type=Path, metavar="OTHER")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    given = parser.parse_args(arguments)
    found = compared(given.first, given.second)
    print(json.dumps(found, indent=2) if given.json else "\n".join(lines(found)))
    return 0


def compared(first: Path, second: Path) -> list[dict[str, Any]]:
    """A class each, and all together: kernels in both (a state each), median of second / first, and of |second / first - 1|
    the median and the part that nine of ten are below. Raises CalibrationError.
    """
    base, other = seconds_by_call(first), seconds_by_call(second)
    ratios: dict[str, list[float]] = defaultdict(list)
    for key, (part, seconds) in base.items():
        if key in other:
            ratio = other[key][1] / seconds
            ratios[part].append(ratio)
            ratios[ALL].append(ratio)
    if not ratios:
        raise CalibrationError(f"{str(first)!r} and {str(second)!r} have no kernel in common; calibrate both alike")
    return [_line(name, ratios[name]) for name in (*sorted(ratios.keys() - {ALL}), ALL)]


def lines(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """For people."""
    text = [f"{'class':<12}{'points':>8}{'median':>9}{'apart':>8}{'p90':>8}"]
    for row in found:
        apart = "".join(f"{100 * row[name]:>7.1f}%" for name in ("median_apart", "p90_apart"))
        text.append(f"{row['class']:<12}{row['points']:>8}{row['median_ratio']:>9.3f}{apart}")
    return text


def seconds_by_call(folder: Path) -> dict[Key, tuple[str, float]]:
    """(kernel, state) → part and seconds, of a folder's points that nothing is wrong with. Raises CalibrationError."""
    path = folder / POINTS
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        check_points(path, rows)
        return dict(_sound(rows))
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        raise CalibrationError(
            [Problem(str(path), "", f"holds no points ({reason}); give a calibration folder")]
        ) from None


def _sound(rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[Key, tuple[str, float]]]:
    for row in rows:
        if row["seconds"] and not (row["note"] or "").startswith(FLAGGED):
            yield (*key_of(row), row["state"]), (row["part"], float(row["seconds"]))


def _line(name: str, ratios: Sequence[float]) -> dict[str, Any]:
    apart = sorted(abs(ratio - 1.0) for ratio in ratios)
    return {
        "class": name,
        "points": len(ratios),
        "median_ratio": median(ratios),
        "median_apart": median(apart),
        "p90_apart": apart[min(math.ceil(TAIL * len(apart)), len(apart)) - 1],
    }
