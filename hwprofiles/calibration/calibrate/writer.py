"""Writes the stack folder out of what was measured. No torch here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any, Final

from hwprofiles.calibration.calibrate.facts import Facts
from hwprofiles.calibration.calibrate.folder import LIMIT, RUN
from hwprofiles.calibration.calibrate.machine_parts import MACHINE, MachinePart
from hwprofiles.calibration.calibrate.rows import STATE, kernel_rows, write_rows
from hwprofiles.calibration.calibrate.store import FLAGGED
from hwprofiles.calibration.command import write_json, write_whole
from hwprofiles.calibration.fits import fit_points
from hwprofiles.provenance import Source
from hwprofiles.schema import Gpu
from hwprofiles.yaml_text import as_yaml

Row = Mapping[str, str]
TELLING: Final = ("residual", ".ratio", "power.beta")
"""Ends of keys whose source tells of the fit: how right it is, what of it is not this run's."""
SOURCE: Final = "calibrate"
"""Short name of the one source of the rows."""
GOOD_FOR_MONTHS: Final = 12
REHEARSAL: Final = "few kernels were measured: good for a rehearsal, not for predictions"


PARAMETERS: Final = "parameters.yaml"
LEAST_JUDGED: Final = 4
"""Points of a class of which something can be said."""
Found = Mapping[str, Mapping[str, Any]]
"""Parameters of a table, as a *parameters.yaml has them."""


@dataclass(frozen=True)
class Measured:
    """points: rows of points.csv; date: of the run; machine: name of a part that is no kernel → rows of its table;
    limit_s: of the last call, where it had one; program: what measured, "": this one.
    """

    points: Sequence[Row]
    gpu: Gpu
    facts: Facts
    date: str
    machine: Mapping[str, Sequence[Row]] = field(default_factory=dict)
    limit_s: float | None = None
    program: str = ""


@dataclass(frozen=True)
class Written:
    """What the summary tells. num_rows: of kernels.csv; parameters: by file; judged: lines of the fit; left_out: and why."""

    num_rows: int
    parameters: Mapping[str, int]
    judged: tuple[str, ...]
    left_out: tuple[str, ...]


def write_all(folder: Path, measured: Measured, left_out: Sequence[str]) -> Written:
    """The whole stack: tables, parameters, run.json with what was left out, provenance.yaml last. Raises CalibrationError."""
    written = write_stack(folder, measured)
    found = {**measured.facts.as_dict(), "date": measured.date, "left_out": list(left_out)}
    if measured.limit_s:
        found[LIMIT] = measured.limit_s
    write_json(folder / RUN, {**found, "fit": list(written.judged), "not_fitted": list(written.left_out)})
    write_provenance(folder, measured, written.num_rows)
    return written


def write_stack(folder: Path, measured: Measured) -> Written:
    """kernels.csv and every *parameters.yaml; not provenance.yaml, which is written last. Raises CalibrationError.

    A fit that finds no constants leaves its file out, and says why.
    """
    rows, left = kernel_rows(measured.points, measured.gpu, SOURCE)
    write_rows(folder / "kernels.csv", rows)
    judged: list[str] = []
    fits: dict[str, Callable[[str, str], Found]] = {PARAMETERS: partial(_of_kernels, measured, judged)}
    fits |= {
        MACHINE[name].file: partial(_of_machine, MACHINE[name], of_part, measured.gpu.name)
        for name, of_part in measured.machine.items()
    }
    numbers: dict[str, int] = {}
    origin = source_of(measured.facts, measured.date)
    for name, fit in fits.items():
        try:
            found = fit(f"{origin.where} ({origin.note})", measured.date)
        except (ArithmeticError, LookupError, ValueError) as error:
            left.append(f"{name}: {type(error).__name__}: {' '.join(str(error).split())[:300]}")
            found = {}
        if found:
            write_yaml(folder / name, _short(found, origin), "Fitted to this folder's tables by moesim calibrate.")
            numbers[name] = len(found)
        else:
            (folder / name).unlink(missing_ok=True)
    return Written(len(rows), numbers, tuple(judged), tuple(left))


def _short(found: Found, origin: Source) -> Found:
    """Parameters whose source is this run by its short name, and without the rows' own state: hundreds are read at every start.
    What the sources of TELLING keys say stays.
    """
    return {
        key: {
            name: SOURCE if name == "source" and not key.endswith(TELLING) and _is_of(value, origin) else value
            for name, value in entry.items()
            if (name, value) != ("state", STATE)
        }
        for key, entry in found.items()
    }


def _is_of(source: Any, origin: Source) -> bool:
    return isinstance(source, Mapping) and str(source.get("where", "")).startswith(origin.where)


def _of_kernels(measured: Measured, judged: list[str], where: str, date: str) -> Found:
    """Constants of the kernels' formulas; `judged` takes a line a class."""
    sound = [row for row in measured.points if not row["note"].startswith(FLAGGED)]
    found, verdicts = fit_points(sound, measured.gpu, where, date)
    told = [verdict for verdict in verdicts if not verdict.in_fit and verdict.points >= LEAST_JUDGED]
    judged += [verdict.line() for verdict in told]
    if len(told) < len(verdicts):
        judged.append(f"{len(verdicts) - len(told)} more classes have too few points to be judged")
    return found


def _of_machine(part: MachinePart, rows: Sequence[Row], gpu: str, where: str, date: str) -> Found:
    found = part.parameters(rows, where, date, gpu) if rows else {}
    return {key: entry.model_dump(mode="json", exclude_none=True) for key, entry in found.items()}


def source_of(facts: Facts, date: str) -> Source:
    """Of every row and parameter that was measured here."""
    where = f"moesim calibrate on {facts.device}"
    note = ", ".join(
        part
        for part in (
            f"torch {facts.torch}",
            f"driver {facts.driver}" if facts.driver else "",
            f"{facts.power_limit_w:g} W" if facts.power_limit_w else "",
        )
        if part
    )
    return Source(kind="measurement", where=where, date=date, note=note)


def write_provenance(folder: Path, measured: Measured, num_rows: int) -> None:
    """provenance.yaml: with it the folder is whole. num_rows: of kernels.csv. Raises CalibrationError."""
    facts, date = measured.facts, measured.date
    calibration = {
        "date": date, "device": facts.device, "driver": facts.driver, "power_limit_w": facts.power_limit_w,
        "clock_hz": facts.clock_hz, "torch": facts.torch, "cuda": facts.cuda, "spread": spread(measured.points),
        "program": measured.program or program(), "kernel_rows": num_rows,
    }  # fmt: skip
    is_whole = facts.size == "full"
    record = {
        "gpu": measured.gpu.name,
        "description": f"measured by moesim calibrate on {facts.device}, {date}",
        "software": f"torch {facts.torch}" + (f", CUDA {facts.cuda}" if facts.cuda else ""),
        "state": STATE,
        "good_for_months": GOOD_FOR_MONTHS,
        "caveat": "" if is_whole else REHEARSAL,
        "host_cpu": facts.host_cpu,
        "calibration": {
            key: value for key, value in calibration.items() if value not in ("", 0.0) or key == "kernel_rows"
        },
        "sources": {SOURCE: source_of(facts, date).model_dump()},
    }
    write_yaml(folder / "provenance.yaml", record, "Measured by moesim calibrate.")


def spread(points: Sequence[Row]) -> float:
    """Median over the points of (high - low) / seconds of a point's repeats."""
    found = [
        (float(row["high"]) - float(row["low"])) / float(row["seconds"])
        for row in points
        if row["seconds"] and not row["note"].startswith(FLAGGED)
    ]
    return float(f"{median(found):.3g}") if found else 0.0


def program() -> str:
    """Name and version of what measured."""
    try:
        return f"moesim {metadata.version('moesim')}"
    except metadata.PackageNotFoundError:
        return "moesim (source tree)"


def write_yaml(path: Path, value: Mapping[str, Any], heading: str) -> None:
    """As yaml_text.as_yaml. Raises CalibrationError: I/O failed."""
    write_whole(path, as_yaml(value, heading))
