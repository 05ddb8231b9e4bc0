"""What a new worker does before its first task: loads the simulator, its compiled kernels and what every scenario reads."""

from __future__ import annotations

import gc
from typing import Final

from simulator.check import load_scenario
from simulator.run.training_run import simulate_run

QUICK: Final = "mixtral-8x22b"
FEWEST: Final = ("draws=1",)


def warm() -> None:
    """Simulate a quick preset from one draw; what is loaded then is never looked through for garbage again."""
    simulate_run(load_scenario(QUICK, FEWEST))
    gc.collect()
    gc.freeze()
