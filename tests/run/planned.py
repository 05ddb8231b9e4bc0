"""A stand-in for the planner: steps and memory by formulas of the number of GPUs, in no time."""

from __future__ import annotations

from simulator import load_scenario
from simulator.errors import InputError, Problem
from simulator.results.plan_result import LayoutPlan, PlannedLayout
from simulator.scenario.scenario import Scenario

SMALLEST = 32
"""GPUs of the smallest cluster on which the stand-in's layout fits."""
KEYS = {"parallel.pp": 1, "parallel.ep": 8, "parallel.zero_stage": 1, "parallel.schedule": "1f1b", "recompute": "none"}


def fits_any(scenario: Scenario) -> bool:
    return scenario.cluster.num_gpus >= SMALLEST


def step_s(num_gpus: int) -> float:
    """Seconds: work that more GPUs share, and a part that they do not."""
    return 6_400.0 / num_gpus + 2.0


def plan_layout(scenario: Scenario) -> tuple[Scenario, LayoutPlan]:
    num_gpus = scenario.cluster.num_gpus
    if not fits_any(scenario):
        raise InputError([Problem("", "cluster.num_gpus", f"no layout fits on {num_gpus} GPUs")])
    planned = load_scenario(
        scenario.canonical(), [f"{key}={value}" for key, value in KEYS.items()] + [f"cluster.num_gpus={num_gpus}"]
    )
    best = PlannedLayout(
        layout=f"pp1 ep8 on {num_gpus}",
        keys=KEYS,
        fits=True,
        margin_bytes=1e9 * num_gpus,
        step_s=step_s(num_gpus),
        closed_form_s=step_s(num_gpus),
        tokens_per_s_per_gpu=1e6 / (num_gpus * step_s(num_gpus)),
        binds="bubble",
    )
    other = best.model_copy(update={"layout": "pp2 ep8", "loses_by": "a longer bubble, +1.0 s"})
    plan = LayoutPlan(
        num_candidates=100,
        num_legal=50,
        num_feasible=20,
        num_simulated=2,
        rejected={"does not fit": 30, "not legal": 50},
        rule="the shortest step",
        chosen=best,
        simulated=(best, other),
    )
    return planned, plan
