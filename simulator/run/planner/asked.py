"""What is asked to be planned: a scenario whose own layout need not be one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from simulator.check import load_scenario
from simulator.scenario.load import UnfitScenario, python_position
from simulator.scenario.scenario import Scenario

PLANNED: Final = ("parallel", "recompute", "data_parallel", "cluster.num_gpus", "training.micro_batch_size")
"""Keys that a plan sets."""
BESIDE: Final = ("training.global_batch_size", "training.seq_len", "model.num_layers", "model.moe.num_routed_experts")
"""Keys that do not fit one layout and may fit another."""


def load_to_plan(
    source: str | Path | Mapping[str, Any],
    overrides: Sequence[str] = (),
    *,
    position_of: Callable[[int], str] = python_position,
) -> tuple[Scenario, bool]:
    """(scenario, whether its own layout is one). Where nothing but the layout is wrong, that is left to the planner.

    Raises InputError as `simulator.check.load_scenario` for everything else.
    """
    try:
        return load_scenario(source, overrides, position_of=position_of), True
    except UnfitScenario as error:
        if all(_is_of_layout(problem.field) for problem in error.problems):
            return error.scenario, False
        raise


def _is_of_layout(field: str) -> bool:
    return field in BESIDE or any(field == key or field.startswith(f"{key}.") for key in PLANNED)
