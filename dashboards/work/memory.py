"""The memory of a step by stage and tensor, under other recompute and schedules, and what these cost in time."""

from __future__ import annotations

import json
from collections.abc import Mapping

from dashboards.progress import report_progress
from simulator.check import load_scenario
from simulator.results.memory_variants import MemoryVariants
from simulator.results.step_memory import Memory
from simulator.scenario.scenario import Scenario
from simulator.step.graph import order_of_actions
from simulator.step.memory import step_memory
from simulator.step.memory_variants import changed, memory_variants
from simulator.step.prepared import count, memory_question, prepare
from simulator.step.step import simulate_prepared


def memory(document: str) -> Memory:
    """The memory of a step. document: `simulator.run.step_key.step_document` of its scenario. Raises InputError."""
    scenario = _scenario(document)
    return step_memory(memory_question(count(scenario)), order_of_actions(scenario))


def variants(document: str) -> MemoryVariants:
    """The same under other recompute and every schedule; no step is simulated. document: as of `memory`."""
    return memory_variants(_scenario(document), lambda share: report_progress(share, "variant by variant"))


def step_times(document: str, variants: tuple[tuple[str, ...], ...]) -> Mapping[tuple[str, ...], float]:
    """Changes of each variant → mean step seconds over the scenario's random draws. document: as of `memory`."""
    scenario = _scenario(document)
    found = {}
    for place, changes in enumerate(variants):
        report_progress(place / len(variants), f"{place + 1} of {len(variants)} variants")
        found[changes] = simulate_prepared(prepare(changed(scenario, changes)), explained=False).step.step_s
    return found


def _scenario(document: str) -> Scenario:
    return load_scenario(json.loads(document), reads_files=False)
