"""`moesim schema`: the JSON Schema of the scenario file."""

from __future__ import annotations

from simulator.check import scenario_schema
from simulator.cli.output import print_json


def print_schema() -> None:
    """Print the schema."""
    print_json(scenario_schema())
