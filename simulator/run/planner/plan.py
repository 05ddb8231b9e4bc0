"""A scenario's layout, found: enumerate, keep what is legal and fits, rank in closed form, simulate the best, choose."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from math import sqrt
from typing import Final

import numpy as np

from simulator.errors import InputError, Problem
from simulator.results.plan_result import LayoutPlan, PlannedLayout
from simulator.run.planner.candidates import DOES_NOT_FIT, SLOWER, Candidates, Ranked
from simulator.run.planner.legal import whole_scenario
from simulator.run.planner.reasons import binds, loses_by
from simulator.run.planner.simulated import SimulatedLayout, simulate_layout
from simulator.run.planner.smallest import smallest_text
from simulator.run.step_key import step_document
from simulator.scenario.scenario import Scenario

Report = Callable[[int, int], None]
"""Is told of layouts that are simulated how many are done, of how many."""

SIMULATED: Final = 16
"""Layouts that fit and are simulated, the best in closed form."""
DRAWN: Final = 3
"""Of these, the best by their simulated steps, told apart by more draws."""
DRAWS: Final = 4
"""Random draws, the same for each."""
NOISE_FRAC: Final = 0.005
"""Of a step: a smaller difference between two layouts is less than what any price of a kernel is known to."""
WORKERS: Final = 2
RULE: Final = (
    f"of the {SIMULATED} layouts that fit and are best in closed form the one with the least simulated step; of those whose "
    f"steps over the same {DRAWS} random draws differ from it by less than twice the standard error or {NOISE_FRAC:.1%}, "
    "the one with the most memory left"
)
"""The rule of the choice, written before its hours were compared with anything published."""


@dataclass(frozen=True, eq=False)
class Tried:
    """A layout that was simulated. steps: of the same random draws, empty where it was not among the best."""

    ranked: Ranked
    simulated: SimulatedLayout
    steps: tuple[float, ...] = ()

    @property
    def step_s(self) -> float:
        """Its step: the mean of the draws, where there are some."""
        return float(np.mean(self.steps)) if self.steps else self.simulated.step_s


_PLANS: dict[str, tuple[Scenario, LayoutPlan]] = {}
MAX_PLANS: Final = 64


def plan_layout(scenario: Scenario, *, report: Report | None = None) -> tuple[Scenario, LayoutPlan]:
    """The scenario in the layout that is chosen (its draws and seed as given), and how it was found.

    What was planned before in this process is not planned again: a plan follows from the scenario alone. Raises InputError
    where no layout fits: it says the smallest number of GPUs on which one does, or that none does.
    """
    key = inputs_sha256(scenario)
    if key not in _PLANS:
        while len(_PLANS) >= MAX_PLANS:
            _PLANS.pop(next(iter(_PLANS)))
        _PLANS[key] = _planned(scenario, report)
    found, plan = _PLANS[key]
    return found.model_copy(update={"name": scenario.name, "phases": scenario.phases, "prices": scenario.prices}), plan


def inputs_sha256(scenario: Scenario) -> str:
    """Hash of what a plan follows from: what the steps do, and the ramps, whose batches a layout has to run."""
    ramps = [
        None if phase.batch_ramp is None else phase.batch_ramp.model_dump(mode="json") for phase in scenario.phases
    ]
    return hashlib.sha256(f"{step_document(scenario)}{json.dumps(ramps, sort_keys=True)}".encode()).hexdigest()


def _planned(scenario: Scenario, report: Report | None) -> tuple[Scenario, LayoutPlan]:
    candidates = Candidates(scenario)
    ranked = candidates.ranked()
    if report is not None:
        report(0, SIMULATED)
    tried = _told_apart(_tried(candidates, ranked, report))
    if not tried:
        raise InputError([Problem(scenario.where("parallel"), "parallel", smallest_text(scenario))])
    best = tried[0]
    near = [each for each in tried if each is best or _is_within_noise(each, best)]
    chosen = max(near, key=lambda each: (each.simulated.margin_bytes, -each.step_s))
    rejected = {key: number for key, number in sorted(candidates.rejected.items()) if number}
    space = candidates.space
    plan = LayoutPlan(
        num_candidates=space.num_candidates,
        num_legal=candidates.num_legal,
        num_feasible=candidates.num_feasible,
        num_simulated=len(tried),
        rejected=rejected,
        rule=RULE,
        chosen=_planned_layout(candidates, chosen, chosen),
        simulated=tuple(_planned_layout(candidates, each, chosen) for each in tried),
        within_noise=tuple(space.text_of(each.ranked.layout) for each in near if each is not chosen),
    )
    return whole_scenario(space, chosen.ranked.layout), plan


def _tried(candidates: Candidates, ranked: Sequence[Ranked], report: Report | None) -> list[Tried]:
    """The first SIMULATED layouts that fit, in the order of the closed form."""
    one_draw = {"draws": 1}
    found: list[Tried] = []
    pending = [each for each in ranked if candidates.is_legal(each.layout)]
    taken = 0
    with ThreadPoolExecutor(max_workers=WORKERS) as pool:
        while pending and len(found) < SIMULATED:
            some, pending = pending[: SIMULATED - len(found)], pending[SIMULATED - len(found) :]
            scenarios = [whole_scenario(candidates.space, each.layout).model_copy(update=one_draw) for each in some]
            for each, result in zip(some, pool.map(simulate_layout, scenarios), strict=True):
                taken += 1
                if isinstance(result, SimulatedLayout):
                    found = _lightened([*found, Tried(each, result)])
                else:
                    candidates.rejected[DOES_NOT_FIT] += 1
                if report is not None:
                    report(min(taken, SIMULATED), SIMULATED)
    candidates.rejected[SLOWER] += len(pending)
    return found


def _lightened(tried: Sequence[Tried]) -> list[Tried]:
    """All of them; those that others beat too often to be drawn again let their graphs go."""
    best = sorted(tried, key=lambda each: (each.step_s, each.ranked.layout))[:DRAWN]
    return [each if each in best else replace(each, simulated=each.simulated.alone()) for each in tried]


def _told_apart(tried: Sequence[Tried]) -> list[Tried]:
    """Best first, the best few with the same random draws."""
    order = sorted(tried, key=lambda each: (each.step_s, each.ranked.layout))
    drawn = [Tried(each.ranked, each.simulated, tuple(each.simulated.draws(DRAWS).tolist())) for each in order[:DRAWN]]
    return [*sorted(drawn, key=lambda each: (each.step_s, each.ranked.layout)), *order[DRAWN:]]


def _is_within_noise(one: Tried, best: Tried) -> bool:
    """Whether draws do not tell a layout from the best one: only of those that were drawn alike."""
    if not one.steps or not best.steps:
        return False
    # Where nothing is random a layout has one step, which stands for every draw.
    differences = np.resize(np.array(one.steps), DRAWS) - np.resize(np.array(best.steps), DRAWS)
    mean, error = float(differences.mean()), float(differences.std(ddof=1)) / sqrt(DRAWS)
    return mean <= max(2.0 * error, NOISE_FRAC * best.step_s)


def _planned_layout(candidates: Candidates, tried: Tried, chosen: Tried) -> PlannedLayout:
    space, scenario = candidates.space, candidates.space.scenario
    tokens = scenario.training.global_batch_size * scenario.training.seq_len
    return PlannedLayout(
        layout=space.text_of(tried.ranked.layout),
        keys=space.keys_of(tried.ranked.layout),
        fits=True,
        margin_bytes=tried.simulated.margin_bytes,
        step_s=tried.step_s,
        closed_form_s=tried.ranked.form.step_s,
        tokens_per_s_per_gpu=tokens / tried.step_s / scenario.cluster.num_gpus,
        binds=binds(tried.ranked.form),
        loses_by=None if tried is chosen else loses_by(
            tried.ranked.form, tried.step_s, tried.simulated.margin_bytes, chosen.ranked.form, chosen.step_s,
            chosen.simulated.margin_bytes,
        ),
    )  # fmt: skip
