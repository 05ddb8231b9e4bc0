"""A whole training beside what was published of it: GPU-hours and USD line by line, a line of one phase or several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import fsum
from pathlib import Path
from statistics import median
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from hwprofiles.record_file import read_record
from simulator import load_scenario
from simulator.errors import InputError
from simulator.report import numbers
from simulator.report.phase_words import hours
from simulator.results.interval import Estimate
from simulator.results.run_result import PhaseResult, RunResult
from simulator.run.training_run import simulate_run
from validation.instrument.table import Table

RUNS: Final = Path(__file__).parent / "whole_runs"
HEADERS: Final = ("", "published", "predicted", "90 % interval", "error", "USD published", "USD predicted")


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Amount(_Record):
    """What was published: GPU-hours, USD."""

    gpu_hours: float = Field(gt=0)
    usd: float = Field(gt=0)


class Line(Amount):
    """A published line, and the phases of the scenario that it is of."""

    name: str
    phases: tuple[str, ...] = Field(min_length=1)


class WholeRun(_Record):
    """A published run. case_id: of the case file that tells of its step; scenario: a preset."""

    case_id: str
    scenario: str
    source: str
    lines: tuple[Line, ...] = Field(min_length=1)
    total: Amount
    note: str = ""


@dataclass(frozen=True)
class Compared:
    """A published line beside the prediction of its phases."""

    name: str
    published: Amount
    predicted: Estimate
    usd: float | None

    @property
    def error_frac(self) -> float:
        """Predicted over published GPU-hours, minus one."""
        return self.predicted.value / self.published.gpu_hours - 1.0


def whole_run_names() -> tuple[str, ...]:
    """Cases of which a whole run was published, sorted."""
    return tuple(sorted(path.stem for path in RUNS.glob("*.yaml")))


def load_whole_run(name: str) -> WholeRun:
    """The published run of a case of `whole_run_names`. Raises InputError where its file is wrong."""
    return read_record(RUNS / f"{name}.yaml", WholeRun, f"whole_runs/{name}.yaml", InputError)


def predicted(run: WholeRun) -> RunResult:
    """The prediction of its scenario. Raises InputError."""
    return simulate_run(load_scenario(run.scenario))


def compared(run: WholeRun, result: RunResult) -> tuple[Compared, ...]:
    """The lines in their order, and the total last."""
    phases = {phase.name: phase for phase in result.phases}
    found = [_line(line, [phases[name] for name in line.phases]) for line in run.lines]
    cost = result.totals.cost_usd
    total = Compared("total", run.total, result.totals.gpu_hours, None if cost is None else cost.value)
    return (*found, total)


def _line(line: Line, phases: Sequence[PhaseResult]) -> Compared:
    """A line's phases are wrong together, so that the ends of their ranges add."""
    estimates = [hours(phase) for phase in phases]
    predicted = sum(estimates[1:], start=estimates[0])
    costs = [phase.cost_usd for phase in phases if phase.cost_usd is not None]
    return Compared(line.name, line, predicted, fsum(costs) if len(costs) == len(phases) else None)


@dataclass(frozen=True)
class Layouts:
    """GPU-hours of a phase in the best layout that was simulated, in the one that was taken and in the median one."""

    phase: str
    chosen: str
    best_hours: float
    chosen_hours: float
    median_hours: float
    num_simulated: int


def layouts(result: RunResult) -> tuple[Layouts, ...]:
    """Of the phases whose layout was found."""
    found = []
    for phase in result.phases:
        if phase.plan is None:
            continue
        steps = [each.step_s for each in phase.plan.simulated if each.step_s is not None]
        per_second = phase.gpu_hours / phase.step_s
        chosen = phase.plan.chosen
        found.append(
            Layouts(
                phase.name,
                chosen.layout,
                per_second * min(steps),
                phase.gpu_hours,
                per_second * median(steps),
                len(steps),
            )
        )
    return tuple(found)


def table(run: WholeRun, result: RunResult) -> Table:
    """Line by line, with what was found for the layouts below."""
    rows = [
        (
            each.name,
            numbers.amount(each.published.gpu_hours),
            numbers.amount(each.predicted.value, each.predicted.interval.width / 2),
            numbers.amount_range(each.predicted.low, each.predicted.high),
            numbers.signed_percent(each.error_frac),
            numbers.amount(each.published.usd),
            "" if each.usd is None else numbers.amount(each.usd),
        )
        for each in compared(run, result)
    ]
    notes = [
        f"{each.phase}: best layout {numbers.amount(each.best_hours)}, taken {numbers.amount(each.chosen_hours)} "
        f"({each.chosen}), median of {each.num_simulated} {numbers.amount(each.median_hours)}."
        for each in layouts(result)
    ]
    title = f"{run.case_id}: GPU-hours and USD of the whole training ({run.scenario}), {run.source}"
    return Table(title, HEADERS, rows, " ".join([*notes, run.note.strip()]), spare=(3,))


def document(run: WholeRun, result: RunResult) -> dict[str, Any]:
    """The same for `--json`."""
    lines: list[Mapping[str, Any]] = [
        {
            "name": each.name,
            "published_gpu_hours": each.published.gpu_hours,
            "gpu_hours": each.predicted.model_dump(),
            "error_frac": each.error_frac,
            "published_usd": each.published.usd,
            "usd": each.usd,
        }
        for each in compared(run, result)
    ]
    found = [vars(each) for each in layouts(result)]
    return {"case_id": run.case_id, "scenario": run.scenario, "source": run.source, "lines": lines, "layouts": found}
