"""`moesim run`: load, check, simulate, print."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from simulator.check import check_scenario
from simulator.cli.output import check_output, print_warnings, write_atomically
from simulator.scenario import load_scenario


def run_scenario(source: str, overrides: Sequence[str], as_json: bool, out: Path | None, force: bool) -> None:
    """Predict a scenario; the JSON document to standard output (as_json) and to `out`, else the report for people.

    Raises InputError before anything is computed or written, MoesimError where writing fails.
    """
    if out is not None:
        check_output(out, force)
    scenario = load_scenario(source, overrides)
    check_scenario(scenario)
    print_warnings(scenario.warnings)

    from simulator.report.console import print_run
    from simulator.results.document import to_json
    from simulator.training_run import simulate_run

    result = simulate_run(scenario)
    document = to_json(result)
    if out is not None:
        check_output(out, force)
        write_atomically(out, document)
    if as_json:
        sys.stdout.write(document)
    else:
        print_run(result)
    sys.stdout.flush()
