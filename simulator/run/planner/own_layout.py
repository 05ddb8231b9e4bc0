"""The layout that a scenario states itself, beside the planned one of the same size: both steps, and what makes them differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from simulator.results.comparison import step_difference
from simulator.results.plan_table import GivenLayout, PlanResult, PlanRow
from simulator.results.step_result import StepResult
from simulator.run.economics import price_of
from simulator.run.layout_text import layout_text
from simulator.run.planner.sizes import Planned, run_of
from simulator.scenario.phase_scenarios import is_to_plan
from simulator.scenario.scenario import Scenario
from simulator.step.batches import StepSimulator

SECTIONS: Final = ("parallel", "recompute", "training", "data_parallel")
"""Sections that a plan may change."""


def states_layout(scenario: Scenario) -> bool:
    """Whether the scenario says how it is laid out, and how it is not for a planner to find."""
    return scenario.is_given("parallel") and not is_to_plan(scenario)


def beside_own(scenario: Scenario, planned: Planned) -> PlanResult:
    """The document, with the scenario's own layout where it states one and that number of GPUs was planned."""
    result = planned.result
    if not states_layout(scenario) or all(row.num_gpus != scenario.cluster.num_gpus for row in result.rows):
        return result
    return result.model_copy(update={"given": given_layout(scenario, planned.at_own)})


def given_layout(scenario: Scenario, planned: Scenario | None) -> GivenLayout:
    """The scenario's own step, simulated, and the planned one of the same number of GPUs less it; None: there is none."""
    own = _step(scenario)
    step_s = own.step.step_s
    days, cost = run_of(scenario, scenario.cluster.num_gpus, step_s, price_of(scenario))
    row = PlanRow(
        num_gpus=scenario.cluster.num_gpus,
        layout=layout_text(scenario),
        fits=own.memory.fits,
        margin_bytes=float(own.memory.usable_bytes - own.memory.peak_bytes_per_gpu),
        step_s=step_s,
        tokens_per_s_per_gpu=own.step.tokens_per_s_per_gpu,
        binds=own.step.binding[0].what if own.step.binding else None,
        days=days,
        cost_usd=cost,
    )
    if planned is None:
        return GivenLayout(row=row, keys={})
    words = layout_text(planned)
    return GivenLayout(
        row=row,
        is_plan=words == row.layout,
        planned=words,
        keys=changed_keys(scenario, planned),
        difference=step_difference(own.step, _step(planned).step),
    )


def changed_keys(scenario: Scenario, planned: Scenario) -> dict[str, Any]:
    """Dotted key -> the planned value, of the keys in which the two differ."""
    before, after = _flat(scenario.canonical()), _flat(planned.canonical())
    return {key: value for key, value in after.items() if value != before.get(key)}


def _flat(document: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for section in SECTIONS:
        for key, value in document[section].items():
            inner = value if isinstance(value, Mapping) else {"": value}
            found |= {f"{section}.{key}.{name}".rstrip("."): entry for name, entry in inner.items()}
    return found


def _step(scenario: Scenario) -> StepResult:
    """The step at full batch, and what binds it."""
    simulate = StepSimulator()
    batch, schedule = scenario.training.global_batch_size, scenario.parallel.schedule
    return simulate(scenario, global_batch_size=batch, schedule=schedule)
