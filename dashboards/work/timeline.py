"""The timeline of a step, under the scenario's schedule or another."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Final

from dashboards.progress import report_progress
from dashboards.source import Source
from simulator.check import load_scenario
from simulator.results.timeline import StepTimeline
from simulator.schedule.family import SCHEDULES
from simulator.step.timeline import step_timeline

ONE_CHUNK: Final = 1


def timeline(document: str) -> StepTimeline:
    """The first draw of a step. document: `simulator.run.kept_steps.step_document` of its scenario. Raises InputError."""
    report_progress(0.1, "one random draw, every operator")
    return step_timeline(load_scenario(json.loads(document), reads_files=False))


def under(source: Source, schedule: str) -> Source:
    """The source under another schedule; with as many chunks a rank as that needs, where it cannot run the source's."""
    scenario, fewest = source.load(), SCHEDULES[schedule].fewest_chunks
    vpp = scenario.parallel.vpp
    changes = [f"parallel.schedule={schedule}"]
    if (fewest == ONE_CHUNK) != (vpp == ONE_CHUNK):
        changes.append(f"parallel.vpp={fewest}")
    return replace(source, overrides=(*source.overrides, *changes))
