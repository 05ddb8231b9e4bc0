"""From the space to the layouts that are simulated: legal ones, those that fit, the best of them in closed form."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from hwprofiles.stack_choice import load_stack
from hwprofiles.stack_records import Assumption
from simulator.run.planner.closed_form import ClosedForm, StepForm
from simulator.run.planner.legal import Rules, problem_of_layout
from simulator.run.planner.memory_screen import MemoryScreen
from simulator.run.planner.prices import PartPrices
from simulator.run.planner.rough_form import RoughForm
from simulator.run.planner.space import ZERO_STAGES, Candidate, Mesh, Space
from simulator.scenario.assumptions import resolve_assumptions
from simulator.scenario.scenario import Scenario
from simulator.workload.memory import MemoryAssumptions

DOES_NOT_FIT: Final = "does not fit"
MORE_AGAIN: Final = "computes more again than it has to for its memory"
BEYOND: Final = "not looked at: meshes beyond the bound"
ROUGHLY_SLOWER: Final = "slower by the rough closed form"
SLOWER: Final = "slower by the closed form"
EXACT: Final = 64
"""Layouts whose own parts are priced: the best by parts that are scaled from others'."""
TOLERANCE: Final = 0.02
"""Of a GPU's memory: layouts that the screen finds too large by less are not rejected by it, but by their simulated peak."""


@dataclass(frozen=True)
class Ranked:
    """A layout with its closed form and the margin of the memory screen."""

    layout: Candidate
    form: StepForm
    margin_bytes: float


class Candidates:
    """Of a scenario. rejected: reason → layouts."""

    def __init__(self, scenario: Scenario) -> None:
        self.space = Space(scenario)
        self.rules = Rules(self.space)
        self.rejected: Counter[str] = Counter()
        self.num_legal = self.num_feasible = 0

    @cached_property
    def assumptions(self) -> Mapping[str, Assumption]:
        """Stated values and the scenario's own."""
        return resolve_assumptions(self.space.scenario, load_stack(self.space.scenario.stack))

    @cached_property
    def screen(self) -> MemoryScreen:
        """Of memory."""
        values = {key: each.value for key, each in self.assumptions.items()}
        return MemoryScreen(self.space, self.rules, MemoryAssumptions.of(values))

    @cached_property
    def closed_form(self) -> ClosedForm:
        """Of time."""
        return ClosedForm(self.space, self.rules, PartPrices(self.space, self.rules, self.assumptions), self.screen)

    @cached_property
    def rough_form(self) -> RoughForm:
        """Of time, for very many."""
        return RoughForm(self.closed_form)

    def pipelines(self) -> Iterator[tuple[Mesh, int, str, int]]:
        """(mesh, micro-batch size, schedule, virtual stages) that the rules allow; counts the others."""
        inner = len(ZERO_STAGES) * len(self.space.recomputes)
        for mesh in self.space.meshes:
            schedules = self.space.schedules(mesh.pp)
            sizes = self.space.micro_batch_sizes(mesh)
            if not sizes:
                self.rejected["not legal: training.global_batch_size"] += len(schedules) * inner
            for size in sizes:
                found = self.rules.inside(mesh, size)
                if found is not None:
                    self.rejected[f"not legal: {found}"] += len(schedules) * inner
                    continue
                for schedule, vpp in schedules:
                    found = self.rules.pipeline(mesh, size, schedule, vpp)
                    if found is not None:
                        self.rejected[f"not legal: {found}"] += inner
                        continue
                    yield mesh, size, schedule, vpp
        beyond = self.space.num_candidates - self.space.num_looked_at
        if beyond:
            self.rejected[BEYOND] += beyond

    def feasible(self, *, every: bool = False) -> Iterator[tuple[Candidate, float]]:
        """(layout, margin) of those that fit. every: also those that compute more again than their memory needs."""
        slack = TOLERANCE * self.screen.usable
        recomputes = range(len(self.space.recomputes))
        for mesh, size, schedule, vpp in self.pipelines():
            margins = self.screen.margins(mesh, size, schedule, vpp).tolist()
            for zero, of_zero in zip(ZERO_STAGES, margins, strict=True):
                has_one = False
                for recompute in recomputes:
                    layout = Candidate(*mesh, size, schedule, vpp, zero, recompute)
                    found = self.rules.switches(layout)
                    if found is not None:
                        self.rejected[f"not legal: {found}"] += 1
                        continue
                    self.num_legal += 1
                    if of_zero[recompute] < -slack:
                        self.rejected[DOES_NOT_FIT] += 1
                        continue
                    self.num_feasible += 1
                    if has_one and not every and of_zero[recompute - 1] >= slack:
                        self.rejected[MORE_AGAIN] += 1
                        continue
                    has_one = True
                    yield layout, of_zero[recompute]

    def ranked(self) -> list[Ranked]:
        """The best in closed form, best first; the others are counted."""
        form, rough_form = self.closed_form, self.rough_form
        rough = sorted(
            ((rough_form.step_s(layout), layout, margin) for layout, margin in self.feasible()),
            key=lambda each: each[:2],
        )
        self.rejected[ROUGHLY_SLOWER] += max(0, len(rough) - EXACT)
        found = [Ranked(layout, form.exact(layout), margin) for _, layout, margin in rough[:EXACT]]
        return sorted(found, key=lambda each: (each.form.step_s, each.layout))

    def is_legal(self, layout: Candidate) -> bool:
        """Asked of the whole layout, not group by group."""
        return problem_of_layout(self.space, layout) is None
