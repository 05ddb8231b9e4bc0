"""Writes the stack folder out of what was measured. No torch here."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any, Final

from hwprofiles.calibration.calibrate.facts import Facts
from hwprofiles.calibration.calibrate.harness import FLAGGED
from hwprofiles.calibration.calibrate.rows import STATE, kernel_rows, write_rows
from hwprofiles.calibration.command import write_whole
from hwprofiles.provenance import Source
from hwprofiles.schema import Gpu

Row = Mapping[str, str]
SOURCE: Final = "calibrate"
"""Short name of the one source of the rows."""
GOOD_FOR_MONTHS: Final = 12


@dataclass(frozen=True)
class Written:
    """What the summary tells. num_rows: of kernels.csv; parameters: by file; judged: lines of the fit; left_out: and why."""

    num_rows: int
    parameters: Mapping[str, int]
    judged: tuple[str, ...]
    left_out: tuple[str, ...]


def write_stack(folder: Path, points: Sequence[Row], gpu: Gpu, facts: Facts, date: str) -> Written:
    """kernels.csv and every *parameters.yaml; not provenance.yaml, which is written last. Raises CalibrationError."""
    rows, left = kernel_rows(points, gpu, SOURCE)
    write_rows(folder / "kernels.csv", rows)
    return Written(len(rows), {}, (), tuple(left))


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


def write_provenance(
    folder: Path, points: Sequence[Row], gpu: Gpu, facts: Facts, date: str, notes: Sequence[str]
) -> None:
    """provenance.yaml: with it the folder is whole. Raises CalibrationError."""
    calibration = {
        "date": date, "device": facts.device, "driver": facts.driver, "power_limit_w": facts.power_limit_w,
        "clock_hz": facts.clock_hz, "torch": facts.torch, "cuda": facts.cuda, "spread": spread(points),
        "program": program(),
    }  # fmt: skip
    record = {
        "gpu": gpu.name,
        "description": f"measured by moesim calibrate on {facts.device}, {date}"
        + ("" if facts.size == "full" else "; a rehearsal with few points"),
        "software": f"torch {facts.torch}" + (f", CUDA {facts.cuda}" if facts.cuda else ""),
        "state": STATE,
        "good_for_months": GOOD_FOR_MONTHS,
        "caveat": caveat(facts, notes),
        "calibration": {key: value for key, value in calibration.items() if value not in ("", 0.0)},
        "sources": {SOURCE: source_of(facts, date).model_dump()},
    }
    write_yaml(folder / "provenance.yaml", record, "Measured by moesim calibrate.")


def caveat(facts: Facts, notes: Sequence[str]) -> str:
    """What whoever uses the stack should be told; "" where nothing stands out."""
    rehearsal = "" if facts.size == "full" else "few kernels were measured: good for a rehearsal, not for predictions"
    return "; ".join(text for text in (rehearsal, *notes) if text)[:2000]


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
    """A mapping as YAML, a line each entry of its upper two levels. Raises CalibrationError: I/O failed."""
    lines = [f"# {heading}"]
    for key, entry in value.items():
        if isinstance(entry, Mapping) and entry:
            lines.append(f"{key}:")
            lines += [f"  {name}: {_flow(inner)}" for name, inner in entry.items()]
        else:
            lines.append(f"{key}: {_flow(entry)}")
    write_whole(path, "\n".join(lines) + "\n")


def _flow(value: Any) -> str:
    """JSON, which is YAML, with the dot that a float needs."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(key)}: {_flow(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_flow, value)) + "]"
    if isinstance(value, float):
        mantissa, exponent, power = f"{value:.6g}".partition("e")
        return f"{mantissa if '.' in mantissa else f'{mantissa}.0'}{exponent}{power}"
    return json.dumps(value, ensure_ascii=False)
