"""What the report says of a run of several phases: a line each, and below what each trains, where it differs, and how its
layout was found.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import fsum

from rich.console import RenderableType

from simulator.report import facts, numbers
from simulator.report.layout import grid, shortened, text
from simulator.report.phase_words import hours, lines
from simulator.report.run_sections import MAX_NAME_WIDTH
from simulator.results.run_result import PhaseResult, RunResult


def phases(result: RunResult, width: int) -> Iterable[RenderableType]:
    """Nothing for a run of one phase whose layout is stated."""
    if len(result.phases) == 1 and result.phases[0].plan is None:
        return
    if len(result.phases) > 1:
        yield _table(result, width)
    for phase in result.phases:
        yield from (text(line, "dim") for line in lines(phase))


def _table(result: RunResult, width: int) -> RenderableType:
    labels, rows = table(result)
    return grid(width, labels, rows, [*[""] * len(result.phases), "bold"])


def table(result: RunResult) -> tuple[list[str], list[list[str]]]:
    """Headers, and the cells of each phase and of all together, with the 90 % intervals of their GPU-hours."""
    has_cost, totals = result.totals.cost_usd is not None, result.totals
    labels = ["", "tokens", "step", "GPU-hours", "90 % interval", *(["USD"] if has_cost else []), "wall clock"]
    rows = [_row(phase, has_cost) for phase in result.phases]
    tokens = numbers.amount(fsum(phase.tokens for phase in result.phases))
    total = ["all phases", tokens, "", facts.estimate(totals.gpu_hours), facts.estimate_range(totals.gpu_hours)]
    if totals.cost_usd is not None:
        total.append(facts.estimate(totals.cost_usd))
    rows.append([*total, numbers.seconds(totals.wall_s.value)])
    return labels, rows


def _row(phase: PhaseResult, has_cost: bool) -> list[str]:
    found = hours(phase)
    cells = [shortened(phase.name, MAX_NAME_WIDTH), numbers.amount(phase.tokens)]
    cells += [numbers.step_time(phase.step_s, phase.step_interval).partition(" (")[0], facts.estimate(found)]
    cells.append(facts.estimate_range(found) if found.interval.width else "")
    if has_cost:
        cells.append("" if phase.cost_usd is None else numbers.quantity(phase.cost_usd))
    return [*cells, numbers.seconds(phase.wall_s)]
