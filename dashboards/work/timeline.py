"""The timeline of a step, under the scenario's schedule or another."""

from __future__ import annotations

import json
from dataclasses import replace

from dashboards.progress import report_progress
from dashboards.source import Source
from simulator.check import load_scenario
from simulator.results.timeline import StepTimeline
from simulator.schedule.family import SCHEDULES, vpp_problem
from simulator.step.timeline import step_timeline


def timeline(document: str) -> StepTimeline:
    """The first draw of a step. document: `simulator.run.step_key.step_document` of its scenario. Raises InputError."""
    report_progress(0.1, "one random draw, every operator")
    return step_timeline(load_scenario(json.loads(document), reads_files=False))


def under(source: Source, schedule: str) -> Source:
    """The source under another schedule; with as many chunks a rank as that needs, where it cannot run the source's."""
    parallel, rule = source.load().parallel, SCHEDULES[schedule]
    changes = [f"parallel.schedule={schedule}"]
    if vpp_problem(schedule, parallel.vpp) is not None:
        changes.append(f"parallel.vpp={rule.fewest_chunks}")
    if rule.split == "always" and not parallel.split_backward:
        changes.append("parallel.split_backward=true")
    return replace(source, overrides=(*source.overrides, *changes))
