"""The rows of kernels.csv out of the points that were measured. No torch here."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from hwprofiles.calibration.calibrate.store import FLAGGED
from hwprofiles.calibration.command import write_whole
from hwprofiles.calibration.fits.points import OWN_WRITTEN, WRITTEN, gemm_size
from hwprofiles.calibration.fits.serving import serving
from hwprofiles.kernels.parameters import GpuLike, row_problem
from hwprofiles.kernels.rows import KERNEL_COLUMNS, LIBRARY, RESULT, parse_row
from hwprofiles.kernels.shape import KERNELS, OWN_GEMMS, PEAK_OF_DTYPE, KernelShape

Row = Mapping[str, str]
OWN: Final = {"gemm": ("cublas", *WRITTEN, OWN_GEMMS), "grouped_gemm": ("grouped", OWN_GEMMS, OWN_WRITTEN)}
"""Op → libraries whose rows are the stack's; others (loops of launches) are for the fit alone."""
STATE: Final = "first_launches"
SAME: Final = tuple(name for name in KERNEL_COLUMNS if name in KernelShape.__dataclass_fields__)
"""Columns that say which call it was."""


def kernel_rows(measured: Iterable[Row], gpu: GpuLike, source: str) -> tuple[list[dict[str, str]], list[str]]:
    """Rows of kernels.csv, a call each, and what was left out and why.

    Of a call's states the shorter one, as if it were of the first launches: in the loop's 25 ms no limit of power has acted on
    short kernels, whose first launches have the events around them in their time.
    """
    points = [
        point for point in measured if point["seconds"] and not point["note"].startswith(FLAGGED) and _is_row(point)
    ]
    mixed = _mixed(points)
    calls: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for point in points:
        if (point["op"], point[LIBRARY]) not in mixed:
            calls[tuple(point.get(name, "") for name in (*SAME, LIBRARY))].append(point)
    chosen = _own_libraries(calls.values())
    found: dict[tuple[object, ...], dict[str, str]] = {}
    left = []
    for states in calls.values():
        cells = _row(states, source, chosen)
        try:
            row = parse_row({name: cells.get(name, "") for name in _columns()})
            problem = row_problem(row, gpu)
        except ValueError as error:
            problem = str(error)
        if problem:
            left.append(f"{cells['op']} {cells['m']}x{cells['n']}x{cells['k']}: {problem}")
            continue
        key = (*row.shape.key, cells[LIBRARY])
        if key not in found or float(cells["seconds"]) < float(found[key]["seconds"]):
            found[key] = cells
    return sorted(found.values(), key=_order), left


def write_rows(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
    """kernels.csv. Raises CalibrationError: I/O failed."""
    table = io.StringIO()
    writer = csv.DictWriter(table, _columns(), restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path, table.getvalue())


def _columns() -> tuple[str, ...]:
    return (*KERNEL_COLUMNS, LIBRARY, RESULT)


def _is_row(point: Row) -> bool:
    """Whether the stack's table can hold it: a kernel of KERNELS by the stack's own library, even loads, all SMs, alone;
    of those bound by memory a single launch, no variant, and a format that tensor cores know."""
    op = point["op"]
    if op not in KERNELS or point.get("beside") or point.get("sms"):
        return False
    is_plain = not point["variant"] and point.get("launches", "") in ("", "1") and point["dtype"] in PEAK_OF_DTYPE
    if KERNELS[op].bound == "memory" and not is_plain:
        return False
    counts = set(point.get("loads", "").split())
    return len(counts) < 2 and point[LIBRARY] in OWN.get(op, (point[LIBRARY],))


def _mixed(points: Iterable[Row]) -> set[tuple[str, str]]:
    """(op, library) of kernels bound by memory in several formats, which a row's bytes alone do not tell apart."""
    formats: dict[tuple[str, str], set[str]] = defaultdict(set)
    for point in points:
        if KERNELS[point["op"]].bound == "memory":
            formats[point["op"], point[LIBRARY]].add(point["dtype"])
    return {kind for kind, found in formats.items() if len(found) > 1}


def _own_libraries(calls: Iterable[Sequence[Row]]) -> dict[str, str | None]:
    """Op bound by memory → the library whose rows are written without a name; None: all are written with theirs."""
    found: dict[str, set[str]] = defaultdict(set)
    for states in calls:
        if KERNELS[states[0]["op"]].bound == "memory":
            found[states[0]["op"]].add(states[0][LIBRARY])
    return {op: serving(op, have) for op, have in found.items()}


def _row(states: Sequence[Row], source: str, own: Mapping[str, str | None]) -> dict[str, str]:
    best = min(states, key=lambda row: float(row["seconds"]))
    op, library = best["op"], best[LIBRARY]
    library = OWN_GEMMS if library == OWN_WRITTEN else library
    written = "" if (op in OWN and library != OWN_GEMMS) or own.get(op) == library else library
    return {
        **{name: best.get(name, "") for name in SAME}, LIBRARY: written,
        RESULT: gemm_size(best).result if KERNELS[op].bound == "gemm" else "", "sms": "", "regime": "alone",
        "seconds": best["seconds"], "low": best["low"], "high": best["high"], "basis": "measured", "state": STATE,
        "source": source, "note": "",
    }  # fmt: skip


def _order(row: Mapping[str, Any]) -> tuple[tuple[int, int, str], ...]:
    """By the columns, numbers as numbers."""
    cells = (row[name] for name in (*SAME, LIBRARY))
    return tuple((0, int(text), "") if text.isdigit() else (1, 0, text) for text in cells)
