"""moesim: how long a mixture-of-experts model trains on a cluster, what it costs, and what holds it back.

from simulator import load_scenario, simulate_run, simulate_step
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simulator.check import load_scenario
    from simulator.run.training_run import simulate_run
    from simulator.step.step import simulate_step

__all__ = ["load_scenario", "simulate_run", "simulate_step"]

_HOME = {
    "load_scenario": "simulator.check",
    "simulate_step": "simulator.step.step",
    "simulate_run": "simulator.run.training_run",
}


def __getattr__(name: str) -> Any:
    """Imported on first use, so that `import simulator.cli` stays fast."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOME[name]), name)
