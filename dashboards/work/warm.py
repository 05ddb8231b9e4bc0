"""What a new worker does before its first task: loads the simulator, compiled kernels, the stacks that are asked for first."""

from __future__ import annotations

from typing import Final

from dashboards.source import presets
from simulator.check import load_scenario
from simulator.run.training_run import simulate_run

FEWEST: Final = ("draws=1",)


def warm() -> int:
    """Simulate every preset once from one draw; returns how many there are."""
    for name in presets():
        simulate_run(load_scenario(name, FEWEST))
    return len(presets())
