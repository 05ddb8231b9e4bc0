"""`moesim compare`: runs beside a first one, from scenarios and from result files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from simulator.check import load_scenario
from simulator.cli.compare_trace import compare_traces, is_trace_file
from simulator.cli.output import chosen_format, option_position, print_as, print_warnings
from simulator.cli.sources import is_result_file
from simulator.errors import InputError, Problem
from simulator.scenario.scenario import Scenario

if TYPE_CHECKING:
    from simulator.results.comparison import Comparison
    from simulator.results.run_result import RunResult

FORMATS: Final = ("text", "markdown", "json")
MAX_RUNS: Final = 20


def compare_runs(sources: Sequence[str], overrides: Sequence[str], as_json: bool, form: str | None) -> None:
    """Print what differs between the first of `sources` and each of the others; traces stand beside one scenario.

    sources: presets, scenario files, result files. overrides: for every scenario but the first; with them one source is
    compared with itself as changed. Raises InputError before anything is simulated.
    """
    chosen = chosen_format(as_json, form, FORMATS)
    if any(map(is_trace_file, sources)):
        compare_traces(sources, overrides, chosen)
        return
    given = [*sources, *sources] if len(sources) == 1 and overrides else list(sources)
    if not 2 <= len(given) <= MAX_RUNS:
        text = f"{len(given)} given; a comparison takes 2 to {MAX_RUNS}, the first is the base"
        raise InputError([Problem("", "RUN", f"{text}; or one with --set, compared with itself as changed")])
    loaded = [_load(source, overrides if place else ()) for place, source in enumerate(given)]
    if overrides and not any(isinstance(each, Scenario) for each in loaded[1:]):
        text = "has no scenario to change: result files are as they were computed; give their scenarios"
        raise InputError([Problem("", "--set", text)])
    print_warnings(dict.fromkeys(line for each in loaded for line in each.warnings))

    from simulator.results.comparison import compare

    base, *others = _results(loaded)
    _print(compare(base, others), chosen)


def _load(source: str, overrides: Sequence[str]) -> Scenario | RunResult:
    if not is_result_file(source):
        return load_scenario(source, overrides, position_of=option_position)
    from simulator.results.saved import read_result

    return read_result(Path(source), source)


def _results(loaded: Sequence[Scenario | RunResult]) -> list[RunResult]:
    """The runs' documents; steps that several scenarios share are simulated once."""
    from simulator.run.kept_steps import KeptSteps, keep_steps
    from simulator.run.step_key import step_key
    from simulator.run.training_run import simulate_run
    from simulator.step.batches import StepSimulator

    kept: dict[str, KeptSteps] = {}
    results = []
    for each in loaded:
        if isinstance(each, Scenario):
            key = step_key(each)
            kept[key] = keep_steps(each, StepSimulator(), kept.get(key))
            results.append(simulate_run(each, simulate=kept[key]))
        else:
            results.append(each)
    return results


def _print(comparison: Comparison, form: str) -> None:
    from simulator.report.comparison_console import print_comparison
    from simulator.report.comparison_markdown import document

    print_as(form, comparison, document, print_comparison)
