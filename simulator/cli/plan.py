"""`moesim plan`: how many GPUs, in which layout; the plan that is taken as a scenario file."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwprofiles.yaml_file import excerpt
from simulator.check import load_scenario
from simulator.cli.output import check_output, option_position, print_warnings, write_atomically
from simulator.errors import InputError, MoesimError, Problem
from simulator.scenario.hardware import node_of
from simulator.scenario.layers import option_layer, preset_names
from simulator.scenario.scenario import Scenario

if TYPE_CHECKING:
    from simulator.results.plan_table import PlanResult
    from simulator.run.planner.sizes import Limits


@dataclass(frozen=True, slots=True)
class PlanQuestion:
    """What was asked: a scenario with its options, cluster sizes, limits, and where the plan goes."""

    source: str
    overrides: Sequence[str]
    sizes: str | None = None
    max_days: float | None = None
    max_usd: float | None = None
    as_json: bool = False
    out: Path | None = None
    force: bool = False


def plan_clusters(question: PlanQuestion) -> None:
    """Print the plan, or the JSON document, to standard output; write the scenario that is taken to `out`.

    Raises InputError before anything is printed: bad input, no layout that fits, no size that meets the limits.
    """
    if question.out is not None:
        check_output(question.out, question.force, "-o")
    from simulator.run.planner.asked import load_to_plan
    from simulator.run.planner.cluster_sizes import read_sizes
    from simulator.run.planner.sizes import Limits, check_limits, plan_sizes, planned_part

    loaded, has_layout = load_to_plan(question.source, question.overrides, position_of=option_position)
    scenario = planned_part(loaded)

    asked, limits = (
        read_sizes(question.sizes, node_of(scenario).gpus_per_node),
        Limits(question.max_days, question.max_usd),
    )
    check_limits(scenario, limits)
    print_warnings(scenario.warnings)

    from simulator.run.planner import fits_any, plan_layout
    from simulator.run.planner.own_layout import beside_own

    planned = plan_sizes(scenario, asked, limits, plan_layout, fits_any, _progress)
    if planned.scenario is None:
        raise InputError([_unmet(planned.result, limits)])
    result = beside_own(scenario, planned) if has_layout else planned.result
    if question.out is not None:
        check_output(question.out, question.force, "-o")
        write_atomically(question.out, plan_text(question, result, planned.scenario))
    _print(result, question.as_json)


def _progress(done: float, words: str) -> None:
    print(f"planning {words}", file=sys.stderr, flush=True)


def _unmet(result: PlanResult, limits: Limits) -> Problem:
    """What is said where no size meets the limits: the one that comes nearest."""
    from simulator.report import numbers
    from simulator.run.planner.sizes import nearest_to

    row = nearest_to(result.rows, limits)
    assert row is not None, "a size fits, and a limit has something to be compared with"
    options = limits.by_option()
    asked = " and ".join(f"{name} {value:,g}" for name, value in options.items())
    cost = "" if row.cost_usd is None else f" and {numbers.usd(row.cost_usd)}"
    near = f"{row.num_gpus:,} GPUs come nearest with {numbers.plain(row.days or 0.0)} days{cost} ({row.layout})"
    tried = ", ".join(f"{each.num_gpus:,}" for each in result.rows)
    return Problem("", next(iter(options)), f"no size meets {asked}; {near}; planned were {tried}")


def plan_text(question: PlanQuestion, result: PlanResult, taken: Scenario) -> str:
    """The file of -o: what differs from the scenario that was given, or, where that does not load to the plan, all of it.

    Raises MoesimError: neither does.
    """
    from simulator.report.plan_file import complete_file, extending_file

    assert question.out is not None, "a file was asked for"
    folder = question.out.parent
    texts = (
        extending_file(_extended(question.source, folder), _changed(question.overrides, taken), result),
        complete_file(taken.canonical(), result),
    )
    for text in texts:
        if _loads_to(text, folder, taken):
            return text
    raise MoesimError(f"{excerpt(question.out, 200)}: the plan cannot be written as a scenario file")


def _extended(source: str, folder: Path) -> str:
    """How a file in `folder` names what was planned."""
    return source if source in preset_names() else os.path.relpath(source, folder)


def _changed(overrides: Sequence[str], scenario: Scenario) -> Mapping[str, Any]:
    """The keys of the options, one below the other."""
    return option_layer(overrides, [], [phase.name for phase in scenario.phases], option_position).data


def _loads_to(text: str, folder: Path, taken: Scenario) -> bool:
    """Whether a file of this text in `folder` loads to the scenario, its name aside."""
    descriptor, name = tempfile.mkstemp(dir=folder, prefix=".moesim-", suffix=".yaml")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        loaded = load_scenario(Path(name))
    except InputError:
        return False
    finally:
        Path(name).unlink(missing_ok=True)
    return loaded.canonical() | {"name": ""} == taken.canonical() | {"name": ""}


def _print(result: PlanResult, as_json: bool) -> None:
    from simulator.report.plan_console import print_plan
    from simulator.results.document import to_json

    if as_json:
        sys.stdout.write(to_json(result))
    else:
        print_plan(result)
    sys.stdout.flush()
