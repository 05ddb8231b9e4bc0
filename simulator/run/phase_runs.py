"""The phases of a run, simulated: each has the steps of what it trains, its hours and its cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from hwprofiles.stack_records import Assumption
from hwprofiles.units import TERA
from simulator.results.interval import Estimate, Interval
from simulator.results.joint import Joint, together
from simulator.results.phase_parts import STEP, PhasePart
from simulator.results.plan_result import LayoutPlan
from simulator.results.run_result import PhaseResult, SteadyState, Totals
from simulator.results.step_result import AssumptionRow, RangePart, StepResult
from simulator.results.widening import parts_of_ranges, widened
from simulator.run import kinds
from simulator.run.batch_ramp import BatchSize
from simulator.run.beside import StepsBeside, Wanted
from simulator.run.economics import CostEstimate, Price, cost, cost_usd, gpu_hours, price_of
from simulator.run.joint_run import phase_joint, total
from simulator.run.kinds.kind_model import KindModel
from simulator.run.phases import OfKind, PhasePlan, StepTimesByEnd, phase_result, plan_phase, wall_time
from simulator.run.step_key import step_key
from simulator.run.trained import Report, trained_by_phases
from simulator.scenario.phase_scenarios import own_scenarios
from simulator.scenario.scenario import Scenario


class SimulateStep(Protocol):
    """What simulates a step of `global_batch_size` sequences under `schedule`, the other keys as in the scenario."""

    def __call__(self, scenario: Scenario, *, global_batch_size: int, schedule: str) -> StepResult: ...


@dataclass(frozen=True)
class PhaseRun:
    """A phase and the steps that it runs, their intervals widened by `changes` (assumption → relative change of the step).

    layout: how it was found; None where it was stated.
    kind: hours that are no plain steps, beside them or in their place; None where there are none.
    """

    plan: PhasePlan
    steps: Mapping[BatchSize, StepResult]
    changes: Mapping[str, Interval]
    price: Price | None
    layout: LayoutPlan | None = None
    kind: KindModel | None = None

    @property
    def full(self) -> StepResult:
        """The step of the full batch."""
        return self.steps[self.plan.full]

    @property
    def num_gpus(self) -> int:
        """GPUs of the phase."""
        return self.plan.scenario.cluster.num_gpus

    @cached_property
    def times(self) -> StepTimesByEnd:
        """Simulated step times by end of the estimate (value, low, high) and batch size, in seconds."""
        return {
            "value": {size: result.step.step_s for size, result in self.steps.items()},
            "low": {size: result.step.interval.low for size, result in self.steps.items()},
            "high": {size: result.step.interval.high for size, result in self.steps.items()},
        }

    @property
    def step(self) -> Estimate:
        """Seconds of the full batch's step."""
        times = self.full.step
        return Estimate(value=times.step_s, low=times.interval.low, high=times.interval.high)

    @cached_property
    def steps_wall(self) -> Estimate:
        """Wall-clock seconds of plain steps."""
        return wall_time(self.plan, self.times)

    @cached_property
    def wall(self) -> Estimate:
        """Wall-clock seconds."""
        if self.kind is None:
            return self.steps_wall
        of_kind = self.kind.total(self.step, self._drawn).times(1.0 / gpu_hours(self.num_gpus, 1.0))
        return of_kind if self.kind.is_whole else self.steps_wall + of_kind

    @property
    def hours(self) -> Estimate:
        """GPU-hours of the GPUs that are used."""
        return self.wall.times(gpu_hours(self.num_gpus, 1.0))

    @property
    def _drawn(self) -> Sequence[float] | None:
        """The step over its value in every draw; None where nothing was drawn."""
        return self.changes.relative.tolist() if isinstance(self.changes, Joint) else None

    @property
    def of_kind(self) -> OfKind | None:
        """What the phase's kind says beside its steps."""
        if self.kind is None:
            return None
        parts = self.kind.parts(self.step, self._drawn)
        if self.kind.is_whole:
            return OfKind(self.kind.tokens, self.kind.steps, parts)
        trained = self.steps_wall.times(gpu_hours(self.num_gpus, 1.0))
        note = "steps of the phase's layout"
        update = PhasePart(name="update", gpu_hours=trained, decides=STEP, decided=trained.interval, note=note)
        return OfKind(self.plan.tokens, self.plan.steps, (update, *parts))

    @property
    def hours_paid(self) -> Estimate | None:
        """GPU-hours with the GPUs that stay idle in their scale-up domains; None where none do."""
        placement = self.full.placement
        if placement is None or not placement.gpus_idle:
            return None
        return self.wall.times(gpu_hours(placement.gpus_paid, 1.0))

    @cached_property
    def joint(self) -> Joint | None:
        """Its hours in every draw; None where nothing was drawn, as in a first answer."""
        step, kind = self.changes, self.kind
        if not isinstance(step, Joint):
            return None
        if kind is None:
            return step
        trained = 0.0 if kind.is_whole else self.steps_wall.value * gpu_hours(self.num_gpus, 1.0)
        step_s = self.step.value

        def hours(values: Mapping[str, float], factor: float) -> float:
            return math.fsum((trained * factor, *kind.lines(values, step_s * factor).values()))

        return phase_joint(step, kind.assumptions, hours)

    @property
    def cost(self) -> CostEstimate | None:
        """USD; None without a price."""
        return None if self.price is None else cost(self.hours, self.price)

    def result(self) -> PhaseResult:
        """The phase as the result document has it."""
        found = phase_result(self.plan, self.times, self.full, self.price, self.wall, self.of_kind)
        return found.model_copy(update={"plan": self.layout})


def run_phases(scenario: Scenario, simulate: SimulateStep, report: Report | None = None) -> tuple[PhaseRun, ...]:
    """All phases; steps that several of them share are simulated once. report: is told of layouts that are searched for.

    Raises InputError: no layout of a phase fits, a ramp needs batches that its schedules cannot run, or there is no price for
    the GPU in the sheet.
    """
    # First, so that answers that cannot be generated are refused before a layout is searched for.
    said = own_scenarios(scenario)
    models = [kinds.kind_model(each, phase) for each, phase in zip(said, scenario.phases, strict=True)]
    trained = trained_by_phases(scenario, report)
    own = [each.scenario for each in trained]
    plans = [
        plan_phase(each, kinds.resolved_phase(each, phase)) for each, phase in zip(own, scenario.phases, strict=True)
    ]
    prices = [price_of(each) for each in own]
    runs: dict[int, PhaseRun] = {}
    groups = list(_alike(own))
    if isinstance(simulate, StepsBeside):
        simulate.ahead([_wanted([plans[idx] for idx in group]) for group in groups])
    for group in groups:
        steps, changes = _steps([plans[idx] for idx in group], simulate)
        runs |= {
            idx: PhaseRun(plans[idx], steps, changes, prices[idx], trained[idx].plan, models[idx]) for idx in group
        }
    return tuple(runs[idx] for idx in range(len(plans)))


def _alike(own: Sequence[Scenario]) -> Iterable[Sequence[int]]:
    """Places of the phases that train the same steps, together."""
    if all(each is own[0] for each in own):
        return [range(len(own))]
    groups: dict[str, list[int]] = {}
    for idx, each in enumerate(own):
        groups.setdefault(step_key(each), []).append(idx)
    return groups.values()


def _steps(
    plans: Sequence[PhasePlan], simulate: SimulateStep
) -> tuple[dict[BatchSize, StepResult], Mapping[str, Interval]]:
    """The step of every batch size that some phases of equal steps need, each simulated once, the first one's full batch
    first; and what the assumptions are worth there.
    """
    scenario = plans[0].scenario
    steps = {
        size: simulate(scenario, global_batch_size=size.global_batch_size, schedule=size.schedule)
        for size in _sizes(plans)
    }
    effects: Callable[[Scenario, int], Mapping[str, Interval]] | None = getattr(simulate, "effects", None)
    changes = effects(scenario, plans[0].full.global_batch_size) if effects else {}
    return {size: widened(step, changes) for size, step in steps.items()}, changes


def _sizes(plans: Sequence[PhasePlan]) -> Iterable[BatchSize]:
    """Batch sizes whose steps give those of all others, each once."""
    return dict.fromkeys(size for plan in plans for size in plan.sizes_to_simulate)


def _wanted(plans: Sequence[PhasePlan]) -> list[Wanted]:
    """What `_steps` will ask for, in this order."""
    scenario, full = plans[0].scenario, plans[0].full.global_batch_size
    steps = [Wanted(scenario, size.global_batch_size, size.schedule) for size in _sizes(plans)]
    return [*steps, Wanted(scenario, full, None)]


def totals_of(runs: Sequence[PhaseRun]) -> Totals:
    """Sums of the phases in every draw: wrong together as far as they have sources in common."""
    paid = [run.hours_paid for run in runs]
    joints = [run.joint for run in runs]
    return Totals(
        gpu_hours=total([run.hours for run in runs], joints),
        gpu_hours_paid=total([p or run.hours for p, run in zip(paid, runs, strict=True)], joints)
        if any(paid)
        else None,
        wall_s=total([run.wall for run in runs], joints),
        cost_usd=_total_cost(runs),
        ranges=_ranges(runs),
    )


def _ranges(runs: Sequence[PhaseRun]) -> tuple[RangePart, ...] | None:
    """What moves the run's hours, where they are more than steps of one kind."""
    joint = run_joint(runs)
    return None if joint is None or joint is runs[0].changes else parts_of_ranges(joint.sources)


def _total_cost(runs: Sequence[PhaseRun]) -> Estimate | None:
    """Few hours at the low price, many at the high one, as `economics.cost`; None where a phase has no price."""
    priced = [(run.hours, run.price) for run in runs if run.price is not None]
    if len(priced) < len(runs):
        return None
    hours = total([hours for hours, _ in priced], [run.joint for run in runs])
    low, high = (getattr(hours, end) / hours.value if hours.value else 1.0 for end in ("low", "high"))
    parts = [
        cost(Estimate(value=each.value, low=each.value * low, high=each.value * high), price).to_estimate()
        for each, price in priced
    ]
    return sum(parts[1:], start=parts[0])


def run_joint(runs: Sequence[PhaseRun]) -> Joint | None:
    """The run's GPU-hours in every draw; None where some phase was not drawn."""
    parts = [(run.hours.value, run.joint) for run in runs]
    known = [(hours, joint) for hours, joint in parts if joint is not None]
    return together(known) if len(known) == len(parts) else None


def steady_state_of(run: PhaseRun) -> SteadyState:
    """A phase at full batch throughout."""
    step = run.full.step
    useful = step.useful_tokens_per_step or step.tokens_per_step
    hours_per_token = gpu_hours(run.num_gpus, step.step_s) / useful
    hours = hours_per_token * run.plan.tokens
    return SteadyState(
        gpu_hours_per_trillion_tokens=hours_per_token * TERA,
        gpu_hours=hours,
        cost_usd=cost_usd(hours, run.price),
    )


def not_modelled_of(runs: Sequence[PhaseRun]) -> tuple[str, ...]:
    """What the phases' steps leave out, then what their kinds do, each once."""
    of_kinds = (line for run in runs if run.kind for line in run.kind.not_modelled)
    return tuple(dict.fromkeys((*(line for run in runs for line in run.full.not_modelled), *of_kinds)))


def assumption_rows(runs: Sequence[PhaseRun]) -> tuple[AssumptionRow, ...]:
    """What the phases assume, each once, with its effect on the run's GPU-hours: the relative change of each phase's full-batch
    step times the phase's hours.
    """
    rows = {row.key: row for run in reversed(runs) for row in run.full.assumptions}
    order = dict.fromkeys(row.key for run in runs for row in run.full.assumptions)
    of_kinds = {key: each for run in runs if run.kind for key, each in run.kind.assumptions.items()}
    return (
        *(_with_effect(rows[key], runs) for key in order),
        *(_row_of_kind(key, each, runs) for key, each in of_kinds.items()),
    )


def _row_of_kind(key: str, each: Assumption, runs: Sequence[PhaseRun]) -> AssumptionRow:
    """An assumption of phases' kinds, with what it alone does to their GPU-hours."""
    effects = [run.kind.effect(key, run.step) for run in runs if run.kind and key in run.kind.assumptions]
    low, high = (math.fsum(getattr(effect, end) for effect in effects) for end in ("low", "high"))
    return AssumptionRow(
        key=key, value=each.value, low=each.low, high=each.high, unit=each.unit, source=str(each.source),
        effect_on_gpu_hours=Interval(low=low, high=high),
    )  # fmt: skip


def _with_effect(row: AssumptionRow, runs: Sequence[PhaseRun]) -> AssumptionRow:
    known = [(run.changes if run.joint is None else run.joint, run.hours.value) for run in runs]
    found = [(changes[row.key], hours) for changes, hours in known if row.key in changes]
    if not found:
        return row
    low, high = (math.fsum(getattr(change, end) * hours for change, hours in found) for end in ("low", "high"))
    return row.model_copy(update={"effect_on_gpu_hours": Interval(low=low, high=high)})
