"""Fits a calibration's tables anew and writes its stack again, without a GPU and without torch.

python -m hwprofiles.calibration refit DIR [--points FILE.csv]
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from hwprofiles.calibration.calibrate.damage import TIMES, check_points
from hwprofiles.calibration.calibrate.facts import of_run
from hwprofiles.calibration.calibrate.folder import LAST, LIMIT, POINTS, RUN, day
from hwprofiles.calibration.calibrate.machine_parts import MACHINE
from hwprofiles.calibration.calibrate.renew import merged
from hwprofiles.calibration.calibrate.writer import Measured, write_all
from hwprofiles.calibration.command import Parser, guarded, write_whole
from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.catalog import gpu_of_device, load_gpu
from hwprofiles.problem import Problem
from hwprofiles.record_file import CatalogError, read_record
from hwprofiles.schema import Gpu
from hwprofiles.stack_records import StackProvenance

OWN_GPU: Final = "gpu.yaml"
NEEDED: Final = ("part", "op", "variant", "dtype", "library", *TIMES, "note")
"""Columns of points.csv without which it is another table."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints how right the fits are. Exit code 0; 2 for a folder that is no calibration (one that was cut is one)."""
    return guarded("refit", lambda: _main(arguments))


def _main(arguments: Sequence[str] | None) -> int:
    parser = Parser(prog="python -m hwprofiles.calibration refit", description="Fits a calibration's tables anew.")
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument(
        "--points",
        type=Path,
        metavar="FILE.csv",
        help="what renew measured, in the place of the folder's points of its kinds",
    )
    given = parser.parse_args(arguments)
    folder: Path = given.folder
    measured, left_out = read(folder)
    if given.points:
        measured = _renewed(folder, measured, given.points)
    written = write_all(folder, measured, left_out)
    print(*written.judged, *(f"left out: {line}" for line in written.left_out), sep="\n")
    print(f"wrote {folder}: {written.num_rows} rows, {sum(written.parameters.values())} parameters")
    return 0


def _renewed(folder: Path, measured: Measured, new: Path) -> Measured:
    """Writes points.csv with those of the file. Raises CalibrationError."""
    if not measured.points:
        raise CalibrationError([Problem(str(folder / POINTS), "", "has no points that others could replace")])
    columns = list(measured.points[0])
    rows, gone, came = merged(measured.points, new, measured.facts.device, columns)
    table = io.StringIO()
    writer = csv.DictWriter(table, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(folder / POINTS, table.getvalue())
    print(f"{new}: {came} rows in the place of {gone}")
    return replace(measured, points=rows)


def read(folder: Path) -> tuple[Measured, list[str]]:
    """What a folder holds, and what its run left out. Raises CalibrationError: it is no calibration."""
    try:
        run: dict[str, Any] = json.loads((folder / RUN).read_text(encoding="utf-8"))
        facts, date = of_run(run), day(run)
        left_out = [str(line) for line in run.get("left_out", [])]
        points = _rows(folder / POINTS)
        gpu = _gpu(folder, facts.device)
    except (CatalogError, OSError, KeyError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        text = f"is no calibration ({reason}); moesim calibrate -o writes one"
        raise CalibrationError([Problem(str(folder), "", text)]) from None
    missing = [name for name in NEEDED if points and name not in points[0]]
    if missing:
        text = "the column is missing; bring the whole table back, or measure anew"
        raise CalibrationError([Problem(str(folder / POINTS), missing[0], text)])
    check_points(folder / POINTS, points)
    machine = {name: _rows(folder / MACHINE[name].table) for name in facts.parts if name in MACHINE}
    return Measured(points, gpu, facts, date, machine, run.get(LIMIT), measured_by(folder)), left_out


def measured_by(folder: Path) -> str:
    """Name and version of what measured, as the folder's provenance says it: who fits anew measures nothing."""
    if not (folder / LAST).exists():
        return ""
    stated = read_record(folder / LAST, StackProvenance).calibration
    return (stated.program if stated else None) or ""


def _gpu(folder: Path, device: str) -> Gpu:
    """Of the folder's own record, else as its provenance says, else (of a run that was cut) by the device's name."""
    if (folder / OWN_GPU).exists():
        return read_record(folder / OWN_GPU, Gpu)
    known = None if (folder / LAST).exists() else gpu_of_device(device)
    return load_gpu(known or read_record(folder / LAST, StackProvenance).gpu)


def _rows(path: Path) -> list[dict[str, str]]:
    """Of a table; none where there is no file."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
