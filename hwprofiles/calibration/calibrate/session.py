"""One run: everything that is asked for is measured, or is there already, and the stack is written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch

from hwprofiles.calibration.calibrate import record
from hwprofiles.calibration.calibrate.budget import kernel_seconds
from hwprofiles.calibration.calibrate.chip import Chip, TorchChip
from hwprofiles.calibration.calibrate.facts import Facts
from hwprofiles.calibration.calibrate.folder import POINTS
from hwprofiles.calibration.calibrate.harness import Timing, measure
from hwprofiles.calibration.calibrate.parts import PARTS, Size
from hwprofiles.calibration.calibrate.plan import Refinement, coarse_order, key_of, seconds_of
from hwprofiles.calibration.calibrate.progress import Progress, progress
from hwprofiles.calibration.calibrate.store import Table
from hwprofiles.calibration.calibrate.writer import Written, write_provenance, write_stack
from hwprofiles.calibration.rates.case import COLUMNS, RateCase
from hwprofiles.schema import Gpu

POINT_COLUMNS: Final = (*COLUMNS, "state", "seconds", "low", "high", "calls", "clock_hz", "at_s", "note")
STATES: Final = 2
TIMINGS: Final[Mapping[Size, Timing]] = {
    "full": Timing(),
    "quick": Timing(rest_s=0.05, light_rest_s=0.01, loop_s=0.02),
    "cpu": Timing(rest_s=0.0, light_rest_s=0.0, loop_s=0.02),
}


@dataclass(frozen=True)
class Plan:
    """What one run does. gpu: the catalogue's name that the user gave, None: by the device's."""

    device: torch.device
    size: Size
    parts: tuple[str, ...]
    facts: Facts
    date: str
    gpu: str | None = None


@dataclass(frozen=True)
class Outcome:
    """What the summary tells."""

    folder: Path
    gpu: Gpu
    is_known: bool
    points: Sequence[Mapping[str, str]]
    written: Written
    not_measured: tuple[str, ...] = field(default=())


def run(plan: Plan, folder: Path, chip: Chip | None = None) -> Outcome:
    """Measures into the folder and writes the stack. Raises CalibrationError, DeviceLost."""
    table = points_of(folder)
    chip = chip or TorchChip(plan.device)
    total_s = kernel_seconds(plan.size, 0.0)
    with progress(total_s) as shown:
        _kernels(plan, table, chip, total_s, shown)
    return write(plan, folder, table)


def write(plan: Plan, folder: Path, table: Table) -> Outcome:
    """The stack of what is measured by now."""
    gpu, is_known = record.gpu_of(plan.facts, plan.device, table.rows, plan.gpu)
    if not is_known:
        record.save(gpu, folder)
    written = write_stack(folder, table.rows, gpu, plan.facts, plan.date)
    write_provenance(folder, table.rows, gpu, plan.facts, plan.date, ())
    return Outcome(folder, gpu, is_known, table.rows, written)


def points_of(folder: Path) -> Table:
    """points.csv, less a last kernel whose rows are not all there. Raises CalibrationError."""
    table = Table(folder / POINTS, POINT_COLUMNS)
    if table.rows:
        last = key_of(table.rows[-1])
        rows = [row for row in table.rows[-STATES:] if key_of(row) == last]
        if rows[-1]["seconds"] and len(rows) < STATES:
            table.drop_last()
    return table


def _kernels(plan: Plan, table: Table, chip: Chip, total_s: float, shown: Progress) -> None:
    """The coarse grid, then refinement until the time is over; what the table has is not measured again."""
    before_s = float(table.rows[-1]["at_s"]) if table.rows else 0.0
    begin = chip.now()
    done: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for row in table.rows:
        done.setdefault(key_of(row), []).append(row)
    for case, of_kind in _cases(plan, done):
        spent_s = before_s + chip.now() - begin
        if spent_s > total_s:
            return
        shown.told(f"{of_kind}: {case.name}", spent_s, len(done))
        rows = measure(case, chip, TIMINGS[plan.size])
        at_s = before_s + chip.now() - begin
        table.append({**row, "at_s": at_s} for row in rows)
        done[key_of(case.cells)] = list(rows)


def _cases(plan: Plan, done: Mapping[tuple[str, ...], Sequence[Mapping[str, Any]]]) -> Iterator[tuple[RateCase, str]]:
    """Cases that are still to be measured; `done` grows meanwhile."""
    every = [case for name in plan.parts if name in PARTS for case in PARTS[name].cases(plan.device, plan.size)]
    for case in coarse_order(every):
        if key_of(case.cells) not in done:
            yield case, "coarse grid"
    known = {key_of(case.cells): case for case in every}
    finer = Refinement(case for case in every if case.level > 0 and key_of(case.cells) not in done)
    for key, rows in done.items():
        if key in known:
            finer.learn(known[key].cells, seconds_of(rows))
    while (chosen := finer.next()) is not None:
        yield chosen, "finer grid"
        finer.learn(chosen.cells, seconds_of(done[key_of(chosen.cells)]))
