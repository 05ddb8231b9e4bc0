"""One run: everything that is asked for is measured, or is there already, and the stack is written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from hwprofiles.calibration.calibrate import record
from hwprofiles.calibration.calibrate.budget import TOTAL_S, kernel_seconds
from hwprofiles.calibration.calibrate.chip import Chip, TorchChip
from hwprofiles.calibration.calibrate.damage import check_points
from hwprofiles.calibration.calibrate.facts import Facts
from hwprofiles.calibration.calibrate.folder import POINTS
from hwprofiles.calibration.calibrate.harness import DeviceLost, Timing, measure
from hwprofiles.calibration.calibrate.parts import MACHINE, PARTS, MachinePart, Size
from hwprofiles.calibration.calibrate.plan import Refinement, coarse_order, key_of, seconds_of
from hwprofiles.calibration.calibrate.progress import Progress, progress
from hwprofiles.calibration.calibrate.store import Table
from hwprofiles.calibration.calibrate.writer import Measured, Written, write_all
from hwprofiles.calibration.rates.case import COLUMNS, RateCase
from hwprofiles.schema import Gpu

POINT_COLUMNS: Final = (*COLUMNS, "state", "seconds", "low", "high", "calls", "clock_hz", "at_s", "note")
STATES: Final = 2
"""Rows of a kernel that was measured."""
COARSE_SHARE: Final = 0.85
"""Of the kernels' time that the coarse grid may take."""
TIMINGS: Final[dict[Size, Timing]] = {
    "full": Timing(),
    "quick": Timing(rest_s=0.03, light_rest_s=0.005, loop_s=0.015),
    "cpu": Timing(rest_s=0.0, light_rest_s=0.0, loop_s=0.02),
}


@dataclass(frozen=True)
class Plan:
    """What one run does. gpu: the catalogue's name that the user gave, None: by the device's; limit_s: of this call's
    measuring, None: what all calls together take.
    """

    device: torch.device
    size: Size
    parts: tuple[str, ...]
    facts: Facts
    date: str
    gpu: str | None = None
    limit_s: float | None = None

    @property
    def machine(self) -> dict[str, MachinePart]:
        """What is asked for that is no kernel."""
        return {name: part for name, part in MACHINE.items() if name in self.parts}

    @property
    def kernel_seconds(self) -> float:
        """For kernels."""
        return kernel_seconds(self.limit_s or TOTAL_S[self.size], self.machine_seconds)

    @property
    def machine_seconds(self) -> float:
        """For the rest, about."""
        return sum(part.seconds(self.size, self.facts) for part in self.machine.values())


@dataclass(frozen=True)
class Outcome:
    """What the summary tells. other: tables beside points.csv, name → number of rows; left_out: sentences of the parts."""

    gpu: Gpu
    is_known: bool
    points: Sequence[Mapping[str, str]]
    other: Mapping[str, int]
    written: Written
    left_out: Sequence[str]


class Session:
    """Measures into a folder."""

    def __init__(self, plan: Plan, folder: Path, chip: Chip | None = None) -> None:
        """Raises CalibrationError: the folder's tables are not ours."""
        self.plan, self.folder = plan, folder
        self.chip = chip or TorchChip(plan.device)
        self.points = points_of(folder)
        self.tables = {name: Table(folder / part.table, part.measuring.COLUMNS) for name, part in plan.machine.items()}
        self.left_out: list[str] = []
        self._edited = record.edited(folder, self._gpu()[0])
        self._spent_s = float(self.points.rows[-1]["at_s"]) if self.points.rows else 0.0
        self._machine_s = 0.0
        self._done: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
        for row in self.points.rows:
            self._done.setdefault(key_of(row), []).append(row)

    def run(self) -> Outcome:
        """The coarse grid, what is no kernel, the finer grid, the stack. Raises CalibrationError, DeviceLost."""
        cases = [case for name in self.plan.parts if name in PARTS for case in self._cases_of(name)]
        before_s = self._spent_s if self.plan.limit_s else 0.0
        total_s = before_s + self.plan.kernel_seconds
        with progress(total_s + self.plan.machine_seconds) as shown:
            coarse_s = before_s + COARSE_SHARE * self.plan.kernel_seconds
            self._measure_all(coarse_order(cases), "coarse grid", coarse_s, shown)
            for name, part in self.plan.machine.items():
                self._machine(name, part, shown)
            self._measure_all(self._finer(cases), "finer grid", total_s, shown)
        return self.write()

    def write(self) -> Outcome:
        """The stack of what is measured by now. Raises CalibrationError."""
        gpu, is_known = self._gpu()
        if not is_known:
            gpu = self._edited or gpu
            record.save(gpu, self.folder)
        rows = {name: table.rows for name, table in self.tables.items()}
        measured = Measured(self.points.rows, gpu, self.plan.facts, self.plan.date, rows, self.plan.limit_s)
        written = write_all(self.folder, measured, self.left_out)
        other = {name: len(table.rows) for name, table in self.tables.items()}
        return Outcome(gpu, is_known, self.points.rows, other, written, self.left_out)

    def _gpu(self) -> tuple[Gpu, bool]:
        return record.gpu_of(self.plan.facts, self.plan.device, self.points.rows, self.plan.gpu)

    def _cases_of(self, name: str) -> Iterator[RateCase]:
        return PARTS[name].cases(self.plan.device, self.plan.size)

    def _measure_all(self, cases: Iterable[RateCase], grid: str, until_s: float, shown: Progress) -> None:
        """Those that are not there yet, until so much time went into kernels."""
        for case in cases:
            if key_of(case.cells) in self._done:
                continue
            if self._spent_s > until_s:
                return
            shown.told(f"{grid}: {case.name}", self._spent_s + self._machine_s, len(self._done))
            begin = self.chip.now()
            rows = measure(case, self.chip, TIMINGS[self.plan.size])
            self._spent_s += self.chip.now() - begin
            self.points.append({**row, "at_s": self._spent_s} for row in rows)
            self._done[key_of(case.cells)] = list(rows)

    def _finer(self, cases: Sequence[RateCase]) -> Iterator[RateCase]:
        """Candidates, the one first where neighbours disagree most; among them what the coarse grid had no time for."""
        known = {key_of(case.cells): case for case in cases}
        finer = Refinement(case for key, case in known.items() if key not in self._done)
        for key, rows in self._done.items():
            if key in known:
                finer.learn(known[key].cells, seconds_of(rows))
        while (chosen := finer.next()) is not None:
            yield chosen
            finer.learn(chosen.cells, seconds_of(self._done[key_of(chosen.cells)]))

    def _machine(self, name: str, part: MachinePart, shown: Progress) -> None:
        """One part beside kernels; what it cannot measure it says."""
        table, begin = self.tables[name], self.chip.now()

        def emit(row: Mapping[str, Any]) -> None:
            table.append([row])
            shown.told(f"{part.what}: {row['name']}", self._spent_s + self._machine_s, len(self._done))

        shown.told(part.what, self._spent_s + self._machine_s, len(self._done))
        done = frozenset(row["name"] for row in table.rows)
        problem = ""
        try:
            self.left_out += part.measuring.measure(self.plan.device, self.plan.size, emit, done)
        except (ArithmeticError, AttributeError, ImportError, OSError, RuntimeError, ValueError) as error:
            problem = f"{part.what}: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
            self.left_out.append(problem)
        try:
            self.chip.recover()
        except RuntimeError:
            raise DeviceLost(problem or part.what) from None
        self._machine_s += self.chip.now() - begin


def points_of(folder: Path) -> Table:
    """points.csv, less a last kernel whose rows are not all there. Raises CalibrationError."""
    table = Table(folder / POINTS, POINT_COLUMNS)
    check_points(table.path, table.rows)
    if table.rows:
        last = key_of(table.rows[-1])
        rows = [row for row in table.rows[-STATES:] if key_of(row) == last]
        if rows[-1]["seconds"] and len(rows) < STATES:
            table.drop_last()
    return table
