"""How many GPUs: the best layout of each cluster size, what the run takes and costs on it, and which size is taken.

Days and cost are of the tokens that the phases train, all at the full batch's step in the planned layout.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from hwprofiles.units import SECONDS_PER_DAY
from simulator.errors import InputError, Problem
from simulator.results.plan_result import LayoutPlan
from simulator.results.plan_table import PlanResult, PlanRow
from simulator.run.economics import Price, cost_usd, gpu_hours, price_of
from simulator.run.layout_text import DEGREES
from simulator.run.planner.cluster_sizes import (
    FIELD,
    MAX_FOUND,
    AskedSizes,
    Fits,
    sizes_of_table,
    smallest_that_fits,
)
from simulator.run.planner.shared_out import planned_by_two
from simulator.scenario.derived import useful_tokens
from simulator.scenario.hardware import node_of
from simulator.scenario.phase import Phase
from simulator.scenario.phase_scenarios import phase_scenario
from simulator.scenario.scenario import Scenario

SAME_COST_FRAC: Final = 0.05
"""Sizes whose costs are this near to the least one (a share of it) are told apart by days: a step is not known better."""
MAX_ABOVE: Final = 3
"""Nodes above the smallest size of the memory screen, which may be wrong by some per cent."""
MAX_MORE: Final = 6
"""Doublings that are tried beyond a table for days that none of its sizes meets."""

Planner = Callable[[Scenario], tuple[Scenario, LayoutPlan]]
"""`plan_layout`: the scenario in its best layout, and how that was found. Raises InputError where none fits."""


Progress = Callable[[float, str], None]
"""Is told how much is done, 0 to 1, and what is being done, in words."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a run may take and cost: days, and USD; None: anything."""

    days: float | None = None
    usd: float | None = None

    def by_option(self) -> dict[str, float]:
        """The options that set one."""
        stated = {"--max-days": self.days, "--max-usd": self.usd}
        return {option: value for option, value in stated.items() if value is not None}


@dataclass(frozen=True, slots=True)
class PlannedSize:
    """A size in its best layout; row.why says why there is none, and the others are None then."""

    row: PlanRow
    scenario: Scenario | None = None
    plan: LayoutPlan | None = None


@dataclass(frozen=True, slots=True)
class Planned:
    """The document, and the scenario that it takes; None where no size meets the limits. at_own: of the scenario's own size."""

    result: PlanResult
    scenario: Scenario | None
    at_own: Scenario | None


def plan_sizes(
    scenario: Scenario,
    asked: AskedSizes,
    limits: Limits,
    plan: Planner,
    fits: Callable[[Scenario], bool],
    report: Progress = lambda done, words: None,
) -> Planned:
    """Plan the scenario on each size that is asked for, or on those from the smallest that fits to about twice its own.

    fits: whether any layout of a scenario fits on its GPUs. Raises InputError: none does on any size (with the smallest that
    would), or a limit needs tokens or a price that the scenario does not give.
    """
    scenario = planned_part(scenario)
    check_limits(scenario, limits)
    unit, own = node_of(scenario).gpus_per_node, scenario.cluster.num_gpus
    tries: Fits = lambda size: fits(resized(scenario, size))  # noqa: E731
    sizes = asked.listed or _found_sizes(scenario, asked, unit, own, tries)
    done = planned_by_two(
        sizes,
        lambda size: _planned(scenario, size, plan),
        lambda place: report(place / len(sizes), f"{place + 1} of {len(sizes)}: {sizes[place]:,} GPUs"),
    )
    if not asked.listed and asked.ends is None:
        done = [*_above(scenario, done[0], unit, plan, report), *done[1:]]
        done += _more_for(limits, done, scenario, plan, report)
    if not any(each.row.fits for each in done):
        raise _none_fits(scenario, [each.row for each in done], unit, tries)
    first = next(each.row.num_gpus for each in done if each.row.fits)
    least = smallest_that_fits(tries, unit, most=first) if asked.listed else None
    return _taken(scenario, done, limits, least or first)


def check_limits(scenario: Scenario, limits: Limits) -> None:
    """Raise InputError where a limit is no positive number, or the scenario does not say what it is compared with."""
    problems = []
    for option, value in limits.by_option().items():
        if not (math.isfinite(value) and value > 0):
            problems.append(Problem("", option, f"is no limit ({value}); give a number above 0"))
        elif trained_tokens(scenario) is None:
            text = 'the scenario does not say how much is trained; --set "phases=[{name: pretrain, tokens: 1e12}]"'
            problems.append(Problem("", option, f"has nothing to be compared with: {text}"))
        elif option == "--max-usd" and scenario.prices is None:
            text = "the scenario has no price; --set prices.usd_per_gpu_hour=2"
            problems.append(Problem("", option, f"has nothing to be compared with: {text}"))
    if problems:
        raise InputError(problems)


def planned_part(scenario: Scenario) -> Scenario:
    """What is planned of a scenario: itself, or its first phase where none trains as the scenario says."""
    return scenario if alike_phases(scenario) else phase_scenario(scenario, 0)


def alike_phases(scenario: Scenario) -> tuple[Phase, ...]:
    """The phases that train the scenario's own step: pre-training without sections of their own."""
    return tuple(each for each in scenario.phases if not each.changes and each.kind == "pretrain")


def trained_tokens(scenario: Scenario) -> float | None:
    """Tokens that these phases train, padding not counted; None where the scenario leaves its phases out, or has no such."""
    phases = alike_phases(scenario)
    if not phases or not scenario.is_given("phases"):
        return None
    by_step = float(scenario.training.global_batch_size * useful_tokens(scenario))
    return math.fsum(phase.tokens or (phase.steps or 0) * by_step for phase in phases)


def resized(scenario: Scenario, num_gpus: int) -> Scenario:
    """The scenario on another number of GPUs; of its layout, which the planner replaces, no degree is left that could be too
    large for these.
    """
    if num_gpus == scenario.cluster.num_gpus:
        return scenario
    cluster = scenario.cluster.model_copy(update={"num_gpus": num_gpus})
    plan = scenario.parallel.model_copy(update=dict.fromkeys(DEGREES, 1) | {"layers_per_stage": None})
    return scenario.model_copy(update={"cluster": cluster, "parallel": plan})


def run_of(scenario: Scenario, num_gpus: int, step_s: float, price: Price | None) -> tuple[float | None, float | None]:
    """(days, USD) of all tokens at a step; None of what cannot be said."""
    tokens = trained_tokens(scenario)
    if tokens is None:
        return None, None
    wall_s = tokens / (scenario.training.global_batch_size * useful_tokens(scenario)) * step_s
    return wall_s / SECONDS_PER_DAY, cost_usd(gpu_hours(num_gpus, wall_s), price)


def front_of(rows: Sequence[PlanRow]) -> tuple[int, ...]:
    """Indices of the rows that fit and that no other beats in both time and cost, ascending.

    Both are proportional to the step's: its seconds, and these times the GPUs.
    """
    points = [(idx, row.step_s, row.step_s * row.num_gpus) for idx, row in enumerate(rows) if row.fits and row.step_s]
    return tuple(
        idx
        for idx, time, cost in points
        if not any(t <= time and c <= cost and (t, c) != (time, cost) for _, t, c in points)
    )


def choice_of(rows: Sequence[PlanRow], limits: Limits) -> int | None:
    """Index of the row that is taken (`rule_of` says how in words); None where none meets the limits."""
    met = [idx for idx, row in enumerate(rows) if row.fits and row.step_s and _meets(row, limits)]
    if not met:
        return None
    cost = {idx: (rows[idx].step_s or math.inf) * rows[idx].num_gpus for idx in met}
    least = min(cost.values())
    near = [idx for idx in met if cost[idx] <= least * (1.0 + SAME_COST_FRAC)]
    return min(near, key=lambda idx: (rows[idx].step_s or math.inf, cost[idx]))


def rule_of(limits: Limits) -> str:
    """How a size is taken, in words."""
    within = " and ".join(limits.by_option())
    met = f"of the sizes that fit and meet {within}" if within else "of the sizes that fit"
    return f"{met}: the fastest of those whose cost is within {SAME_COST_FRAC:.0%} of the least".replace("%", " %")


def nearest_to(rows: Sequence[PlanRow], limits: Limits) -> PlanRow | None:
    """Of rows none of which meets the limits, the one that oversteps them least, by the ratio of the worse of the two."""
    done = [row for row in rows if row.fits and row.days is not None]
    return min(done, key=lambda row: _overstep(row, limits), default=None)


def _overstep(row: PlanRow, limits: Limits) -> float:
    ratios = [(row.days or 0.0) / limits.days] if limits.days else []
    ratios += [(row.cost_usd or 0.0) / limits.usd] if limits.usd else []
    return max(ratios, default=0.0)


def _meets(row: PlanRow, limits: Limits) -> bool:
    return _overstep(row, limits) <= 1.0


def _found_sizes(scenario: Scenario, asked: AskedSizes, unit: int, own: int, tries: Fits) -> tuple[int, ...]:
    """The sizes of a range, or those that suit the scenario. Raises InputError where nothing fits."""
    least, most = asked.ends or (1, MAX_FOUND)
    smallest = smallest_that_fits(tries, unit, least, most)
    if smallest is not None:
        return sizes_of_table(smallest, unit, own, asked.ends)
    if asked.ends is None:
        text = f"no layout of {scenario.model.name} fits on any number of GPUs up to {MAX_FOUND:,}"
        raise InputError([Problem(scenario.where("model"), "model", f"{text}; {_REMEDY}")])
    beyond = smallest_that_fits(tries, unit, most + 1 if most < unit else most + unit)
    raise _unfit(scenario, f"{least} to {most} GPUs", beyond)


_REMEDY: Final = "use GPUs with more memory, a shorter training.seq_len, or a smaller format of the optimizer's state"


def _none_fits(scenario: Scenario, rows: Sequence[PlanRow], unit: int, tries: Fits) -> InputError:
    """What is said where no listed size has a layout that fits."""
    sizes = [row.num_gpus for row in rows]
    smallest = smallest_that_fits(tries, unit)
    if smallest is not None and smallest in sizes:
        return InputError([Problem("", FIELD, f"{row.num_gpus}: {row.why}") for row in rows])
    return _unfit(scenario, f"{', '.join(map(str, sizes))} GPUs", smallest)


def _unfit(scenario: Scenario, sizes: str, smallest: int | None) -> InputError:
    none = f"no layout of {scenario.model.name} fits on {sizes}"
    more = f"none up to {MAX_FOUND:,} does; {_REMEDY}" if smallest is None else f"the smallest that fits is {smallest}"
    return InputError([Problem("", FIELD, f"{none}; {more}")])


def _planned(scenario: Scenario, num_gpus: int, plan: Planner) -> PlannedSize:
    """One size: its best layout, or why it has none."""
    try:
        found, record = plan(resized(scenario, num_gpus))
    except InputError as error:
        first = error.problems[0].message if error.problems else str(error)
        return PlannedSize(PlanRow(num_gpus=num_gpus, fits=False, why=first))
    best = record.chosen
    step_s = best.step_s or best.closed_form_s
    days, cost = run_of(scenario, num_gpus, step_s, price_of(scenario))
    row = PlanRow(
        num_gpus=num_gpus,
        layout=best.layout,
        keys=best.keys,
        fits=best.fits,
        margin_bytes=best.margin_bytes,
        step_s=step_s,
        tokens_per_s_per_gpu=best.tokens_per_s_per_gpu,
        binds=best.binds,
        days=days,
        cost_usd=cost,
    )
    return PlannedSize(row, found, record)


def _above(scenario: Scenario, first: PlannedSize, unit: int, plan: Planner, report: Progress) -> list[PlannedSize]:
    """The smallest size; where its layouts turn out too large when their memory is walked, the next that is not."""
    size, tried = first, 0
    while not size.row.fits and tried < MAX_ABOVE:
        tried += 1
        step = unit if size.row.num_gpus >= unit else 1
        report(tried / MAX_ABOVE, f"{size.row.num_gpus + step:,} GPUs: fewer do not fit after all")
        size = _planned(scenario, size.row.num_gpus + step, plan)
    return [size]


def _more_for(
    limits: Limits, done: Sequence[PlannedSize], scenario: Scenario, plan: Planner, report: Progress
) -> list[PlannedSize]:
    """Doublings beyond the table, as long as days are above the limit and still fall."""
    more: list[PlannedSize] = []
    last = done[-1].row
    while limits.days and last.days and last.days > limits.days and len(more) < MAX_MORE:
        report(len(more) / MAX_MORE, f"{2 * last.num_gpus:,} GPUs: {last.days:,.0f} days are too many")
        more.append(_planned(scenario, 2 * last.num_gpus, plan))
        if not more[-1].row.days or more[-1].row.days >= last.days:
            break
        last = more[-1].row
    return more


def _taken(scenario: Scenario, done: Sequence[PlannedSize], limits: Limits, smallest: int) -> Planned:
    """The document of planned sizes, and the scenario that is taken."""
    rows = tuple(each.row for each in done)
    chosen = choice_of(rows, limits)
    taken = None if chosen is None else done[chosen]
    result = PlanResult(
        scenario=scenario.name,
        rows=rows,
        smallest_that_fits=smallest,
        front=front_of(rows),
        chosen=chosen,
        rejected=_rejected([each.plan.rejected for each in done if each.plan is not None]),
        rule=rule_of(limits),
        tokens=trained_tokens(scenario),
        max_days=limits.days,
        max_usd=limits.usd,
        plan=taken.plan if taken else None,
        notes=tuple(_notes(scenario)),
    )
    own = next((each.scenario for each in done if each.row.num_gpus == scenario.cluster.num_gpus), None)
    return Planned(result, taken.scenario if taken else None, own)


def _rejected(found: Sequence[Mapping[str, int]]) -> dict[str, int]:
    """Layouts by the reason that they were rejected for, over all sizes, the most first."""
    total: dict[str, int] = {}
    for each in found:
        for reason, number in each.items():
            total[reason] = total.get(reason, 0) + number
    return dict(sorted(total.items(), key=lambda item: (-item[1], item[0])))


def _notes(scenario: Scenario) -> list[str]:
    """What days and cost leave out."""
    if trained_tokens(scenario) is None:
        return ["the scenario does not say how many tokens it trains: tokens/s stand in place of days"]
    phases = alike_phases(scenario)
    others = [phase.name for phase in scenario.phases if phase not in phases]
    ramped = [phase.name for phase in phases if phase.batch_ramp is not None]
    notes = []
    if others:
        named = f"{', '.join(each.name for each in phases)}; {', '.join(others)} are planned by themselves"
        notes.append(f"days and cost are of {named}: run the plan for theirs")
    if ramped:
        text = (
            f"the smaller batches at the start of {', '.join(ramped)} count as full ones: run the plan for their time"
        )
        notes.append(text)
    return notes
