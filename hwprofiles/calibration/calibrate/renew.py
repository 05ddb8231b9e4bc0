"""Measures some libraries' kernels again, for a folder whose tables have older ones of them.

    python -m hwprofiles.calibration renew -o POINTS.csv --library NAME … [--dtype NAME …] [--limit SECONDS]
    python -m hwprofiles.calibration refit DIR --points POINTS.csv      puts them in the place of the folder's, and fits anew

The first needs the GPU, the second neither a GPU nor torch. POINTS.json says on what they were measured.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hwprofiles.calibration.calibrate.damage import check_points
from hwprofiles.calibration.calibrate.plan import coarse_order, key_of, kind_of
from hwprofiles.calibration.calibrate.store import Table
from hwprofiles.calibration.command import Parser, check_output, guarded, write_json
from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.calibration.extra import require_torch
from hwprofiles.names import nearest
from hwprofiles.problem import Problem

if TYPE_CHECKING:
    from hwprofiles.calibration.rates.case import RateCase

LIMIT_S: Final = 140.0


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m hwprofiles.calibration renew`; exit code 0, 1 where the time was up before all were measured."""
    return guarded("renew", partial(_main, arguments))


def _main(arguments: Sequence[str] | None) -> int:
    parser = Parser(
        prog="python -m hwprofiles.calibration renew", description="Measures kernels of some libraries again."
    )
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="POINTS.csv", help="a new file")
    parser.add_argument("--library", nargs="+", required=True, help="cells of the column in points.csv")
    parser.add_argument("--dtype", nargs="+", default=[], help="formats, where not all of a library's are meant")
    parser.add_argument("--limit", type=float, default=LIMIT_S, metavar="SECONDS", help=f"of measuring ({LIMIT_S:g})")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: a rehearsal")
    given = parser.parse_args(arguments)
    if not 0.0 < given.limit < math.inf:
        raise CalibrationError([Problem("", "--limit", f"{given.limit:g} is no time; give seconds above 0")])
    check_output(given.out)
    if given.out.exists():
        raise CalibrationError([Problem("", "-o", f"{str(given.out)!r} is there already; give a new file")])
    require_torch()
    from hwprofiles.calibration.numerics.device import cpu_or_gpu

    device = cpu_or_gpu(given.device)
    size = "cpu" if device.type == "cpu" else "full"
    return _measure(_cases(device, size, given.library, given.dtype), device, size, given.out, given.limit)


def _cases(device: Any, size: Any, libraries: Sequence[str], dtypes: Sequence[str]) -> list[RateCase]:
    """Of all kinds, each call once, the coarse grid first. Raises CalibrationError: a name that no case has."""
    from hwprofiles.calibration.rates.kinds import KINDS

    every = [case for cases in KINDS.values() for case in cases(device, size)]
    problems = [
        Problem("", option, f"{name!a} is of no kernel that is measured{nearest(name, known)}")
        for option, names, known in (
            ("--library", libraries, sorted({str(case.cells["library"]) for case in every})),
            ("--dtype", dtypes, sorted({str(case.cells["dtype"]) for case in every})),
        )
        for name in names if name not in known
    ]  # fmt: skip
    if problems:
        raise CalibrationError(problems)
    chosen = {
        key_of(case.cells): case for case in every
        if case.cells["library"] in libraries and (not dtypes or case.cells["dtype"] in dtypes)
    }.values()  # fmt: skip
    finer = [replace(case, level=0) for case in chosen if case.level]
    return [*coarse_order(chosen), *coarse_order(finer)]


def _measure(cases: Sequence[RateCase], device: Any, size: Any, out: Path, limit_s: float) -> int:
    from hwprofiles.calibration.calibrate.chip import TorchChip
    from hwprofiles.calibration.calibrate.facts import gather
    from hwprofiles.calibration.calibrate.harness import measure
    from hwprofiles.calibration.calibrate.session import POINT_COLUMNS, TIMINGS

    write_json(out.with_suffix(".json"), asdict(gather(device, size, ())))
    chip, table = TorchChip(device), Table(out, POINT_COLUMNS)
    begin, failed, done = chip.now(), 0, 0
    for case in cases:
        rows = measure(case, chip, TIMINGS[size])
        table.append({**row, "at_s": chip.now() - begin} for row in rows)
        done += 1
        if rows[0].get("note"):
            failed += not rows[0].get("seconds")
            print(f"{case.name}: {rows[0]['note']}", file=sys.stderr, flush=True)
        if chip.now() - begin > limit_s:
            break
    print(f"{done} of {len(cases)} kernels in {chip.now() - begin:.1f} s, {failed} of them without a time: {out}")
    return int(done < len(cases))


def merged(
    rows: Sequence[Mapping[str, str]], new: Path, device: str, columns: Sequence[str]
) -> tuple[list[Mapping[str, str]], int, int]:
    """A folder's points with those of the file in the place of all of their kinds; how many went, and how many came.

    device: of the folder. Raises CalibrationError: no such table, another GPU's.
    """
    try:
        measured_on = json.loads(new.with_suffix(".json").read_text(encoding="utf-8"))["device"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        text = (
            f"{str(new)!r} has no {new.with_suffix('.json').name} that says its device ({error}); renew -o writes both"
        )
        raise CalibrationError([Problem("", "--points", text)]) from None
    if measured_on != device:
        text = f"measured on {measured_on!r}, the folder's points on {device!r}; give a file of that GPU"
        raise CalibrationError([Problem(str(new), "device", text)])
    found = Table(new, columns).rows
    check_points(new, found)
    timed = [row for row in found if row["seconds"]]
    kinds = {kind_of(row) for row in timed}
    kept = [row for row in rows if kind_of(row) not in kinds]
    at_s = max((float(row["at_s"]) for row in kept), default=0.0)
    later = [{**row, "at_s": f"{at_s + float(row['at_s']):.6g}"} for row in timed]
    return [*kept, *later], len(rows) - len(kept), len(later)
