"""`moesim schema`: the JSON Schema of the scenario file."""

from __future__ import annotations

from simulator.cli.output import print_json
from simulator.scenario.json_schema import scenario_schema


def print_schema() -> None:
    """Print the schema."""
    print_json(scenario_schema())
