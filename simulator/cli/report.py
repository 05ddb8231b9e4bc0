"""`moesim report`: scenarios and saved results → one file to hand over."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hwprofiles.problems import show
from simulator.check import load_scenario
from simulator.cli.output import check_output, option_position, print_warnings, write_atomically
from simulator.cli.sources import is_result_file
from simulator.errors import InputError, Problem
from simulator.scenario.scenario import Scenario

if TYPE_CHECKING:
    from simulator.report.formats import ReportFormat
    from simulator.results.run_result import RunResult

MAX_SOURCES: Final = 20


def write_report(
    sources: Sequence[str], overrides: Sequence[str], name: str | None, out: Path, force: bool
) -> None:  # fmt: skip
    """Simulates the scenarios, reads the result files, and writes the report of all of them, in their order.

    overrides: `key.path=value` texts, for every scenario. name: of the format, None for that of the file's suffix.
    Raises InputError before anything is simulated or written, InconsistentSimulation where a result of this version
    cannot be simulated again, MoesimError where writing fails.
    """
    chosen = _format(name, out)
    if len(sources) > MAX_SOURCES:
        raise InputError(
            [Problem("", "SCENARIO", f"{len(sources)} are too many for a report; give at most {MAX_SOURCES}")]
        )
    check_output(out, force, "-o")
    loaded = [_load(source, overrides) for source in sources]
    if overrides and not any(isinstance(each, Scenario) for each in loaded):
        raise InputError([Problem("", "--set", "has no scenario to change: a result is as it was; give its scenario")])
    for each in loaded:
        if isinstance(each, Scenario):
            print_warnings(each.warnings)

    from simulator.report.items import saved_item, simulated_item

    drawn = chosen.has_timeline
    items = [
        simulated_item(each, with_timeline=drawn)
        if isinstance(each, Scenario)
        else saved_item(each, with_timeline=drawn)
        for each in loaded
    ]
    content = chosen.render(items)
    check_output(out, force, "-o")
    write_atomically(out, content)


def _load(source: str, overrides: Sequence[str]) -> Scenario | RunResult:
    if not is_result_file(source):
        return load_scenario(source, overrides, position_of=option_position)
    from simulator.results.saved import read_result

    return read_result(Path(source), source)


def _format(name: str | None, out: Path) -> ReportFormat:
    """The named format, else that of the file's suffix. Raises InputError."""
    from simulator import not_modelled
    from simulator.report.formats import FORMATS, format_of_suffix

    if name is not None:
        problem = FORMATS.problem(name)
        if problem is not None:
            instead = not_modelled.instead("format", name)
            raise InputError([Problem("", "-f", f"{problem}{f': {instead}' if instead else ''}")])
        return FORMATS[name]
    found = format_of_suffix(out.suffix)
    if found is None:
        known = ", ".join(f"{FORMATS[each].suffix}" for each in FORMATS)
        raise InputError(
            [Problem("", "-o", f"no format has the suffix {show(out.suffix)}; use one of {known}, or say it with -f")]
        )
    return found
