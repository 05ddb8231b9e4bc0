"""`moesim sensitivity`: what would move a run's GPU-hours, as a tornado or as JSON."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from simulator.check import load_scenario
from simulator.cli.output import option_position, print_warnings


def print_sensitivity(source: str, overrides: Sequence[str], as_json: bool) -> None:
    """The document of a scenario's sources on standard output, or its tornado. Raises InputError."""
    scenario = load_scenario(source, overrides, position_of=option_position)
    print_warnings(scenario.warnings)

    from simulator.report.tornado import print_tornado
    from simulator.results.document import to_json
    from simulator.run.sensitivity import sensitivity

    found = sensitivity(scenario)
    if as_json:
        sys.stdout.write(to_json(found))
    else:
        print_tornado(found)
    sys.stdout.flush()
