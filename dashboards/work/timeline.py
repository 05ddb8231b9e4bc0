"""The timeline of a step, and what its random draws come to on average."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Final

from dashboards.progress import report_progress
from dashboards.source import Source
from simulator.check import load_scenario
from simulator.results.step_result import StepTimes
from simulator.results.timeline import StepTimeline
from simulator.scenario.scenario import Scenario
from simulator.schedule.family import SCHEDULES
from simulator.step.prepared import prepare
from simulator.step.step import simulate_prepared
from simulator.step.timeline import step_timeline

ONE_CHUNK: Final = 1


def timeline(document: str) -> StepTimeline:
    """The first draw of a step. document: `simulator.run.kept_steps.step_document` of its scenario. Raises InputError."""
    scenario = _scenario(document)
    report_progress(0.1, "one random draw, every operator")
    return step_timeline(scenario)


def all_draws(document: str) -> StepTimes:
    """The step's times, means over all random draws. document: as of `timeline`. Raises InputError."""
    scenario = _scenario(document)
    report_progress(0.1, f"{scenario.draws} random draws")
    return simulate_prepared(prepare(scenario), explained=False).step


def under(source: Source, schedule: str) -> Source:
    """The source under another schedule; with as many chunks a rank as that needs, where it cannot run the source's."""
    scenario, fewest = source.load(), SCHEDULES[schedule].fewest_chunks
    vpp = scenario.parallel.vpp
    changes = [f"parallel.schedule={schedule}"]
    if (fewest == ONE_CHUNK) != (vpp == ONE_CHUNK):
        changes.append(f"parallel.vpp={fewest}")
    return replace(source, overrides=(*source.overrides, *changes))


def _scenario(document: str) -> Scenario:
    return load_scenario(json.loads(document), reads_files=False)
