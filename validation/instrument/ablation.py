"""What each mechanism contributes: measured runs predicted again with one mechanism at a time switched off.

The errors of all rows, of dense and of MoE models, and the step of DeepSeek-V3 say what the mechanism is worth: a mechanism
that makes nothing better, or moves nothing, shows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any, Final, TypeVar

from pydantic import BaseModel

from hwprofiles.names import nearest
from hwprofiles.stack_records import Stack
from simulator import load_scenario
from simulator.scenario.plan import Mechanisms
from simulator.scenario.scenario import Scenario
from simulator.schedule.family import SCHEDULES
from simulator.step.step import simulate_seconds
from validation.errors import error_figures
from validation.instrument.outcome import Outcome

Part = TypeVar("Part", bound=BaseModel)

ALL: Final = "all"
REFERENCE: Final = "deepseek-v3"
"""The preset whose step is told beside the errors of the rows."""
KINDS: Final[Mapping[str, tuple[str, ...]]] = {"": ("dense", "MoE"), "dense_": ("dense",), "moe_": ("MoE",)}
"""Prefix of a key of the document → kinds of models whose rows it is of."""
OFF: Final[Mapping[str, tuple[str, Any]]] = {
    **{name: (f"mechanisms.{name}", False) for name in Mechanisms.model_fields},
    "overlap of expert communication": ("parallel.overlap.ep", "none"),
    "overlap of tensor parallelism": ("parallel.overlap.tp", "none"),
    "overlap of data parallelism": ("parallel.overlap.dp", False),
}
"""Mechanism → the key that switches it off, and its value; overlaps are ways to run a job, which the rows have or not."""

IDLE: Final[Mapping[str, Callable[[Scenario], bool]]] = {
    "pp_transfer": lambda plan: plan.parallel.pp == 1,
    "stage_imbalance": lambda plan: plan.parallel.pp == 1,
    "tp_collectives": lambda plan: plan.parallel.tp == 1 and plan.parallel.etp == 1,
    "cp_collectives": lambda plan: plan.parallel.cp == 1,
    "offload_time": lambda plan: not plan.offload.is_used,
    "orthogonalisation": lambda plan: plan.training.optimizer != "muon",
    "imbalance": lambda plan: plan.model.moe is None or plan.moe.balance == "forced",
    "node_limited_dispatch": lambda plan: plan.model.moe is None or plan.parallel.ep == 1,
    "notify_floor": lambda plan: plan.model.moe is None or plan.parallel.ep == 1,
    "document_spread": lambda plan: plan.training.packing == "none",
    "batch_ramp": lambda plan: True,
    "overlap of expert communication": lambda plan: (
        not SCHEDULES[plan.parallel.schedule].overlaps_pairs and plan.parallel.overlap.ep != "shared_expert"
    ),
}
"""Mechanism → whether a plan has nothing for it to act on, so that the step is the same without it."""


def problem(names: Sequence[str]) -> str:
    """What is wrong with names of mechanisms; "" for nothing."""
    if not names:
        return f"names no mechanism; give names by commas, or {ALL}"
    unknown = next((name for name in names if name not in (*OFF, ALL)), None)
    return "" if unknown is None else f"no mechanism is called {unknown!r}{nearest(unknown, (*OFF, ALL))}"


def chosen(names: Sequence[str]) -> tuple[str, ...]:
    """The mechanisms meant, in the order of OFF, each once."""
    return tuple(name for name in OFF if ALL in names or name in names)


def without(scenario: Scenario, name: str) -> Scenario:
    """The scenario with a mechanism switched off; itself where it is off anyway, or has nothing to act on."""
    key, off = OFF[name]
    path = key.split(".")
    if reduce(getattr, path, scenario) == off or (name in IDLE and IDLE[name](scenario)):
        return scenario
    return _with(scenario, path, off)


def _with(section: Part, path: Sequence[str], value: Any) -> Part:
    inner = value if len(path) == 1 else _with(getattr(section, path[0]), path[1:], value)
    return section.model_copy(update={path[0]: inner})


def steps_without(
    scenario: Scenario, names: Sequence[str], step_s: float, stack: Stack | None = None
) -> dict[str, float]:
    """Mechanism → the step's seconds without it. step_s: with all of them; stack: in place of the scenario's."""
    found = {}
    for name in names:
        changed = without(scenario, name)
        found[name] = step_s if changed is scenario else simulate_seconds(changed, stack=stack)
    return found


def contributions(rows: Sequence[Outcome], names: Sequence[str]) -> dict[str, Any]:
    """The part of the document: `deepseek_v3_step_s` with all mechanisms, and `mechanisms`, one entry each.

    rows: those that the figures are of, predicted with `names` switched off too. An entry: name; key and value that switch it
    off; moved: rows whose step it changes; mape and bias of all rows without it, the same of dense and MoE rows (absent where
    there is none); deepseek_v3_step_s without it.
    """
    reference = load_scenario(REFERENCE)
    step_s = simulate_seconds(reference)
    steps = steps_without(reference, names, step_s)
    entries = [
        {
            "name": name,
            "key": OFF[name][0],
            "value": OFF[name][1],
            "moved": sum(_ratio(row, name) != 1.0 for row in rows),
            **_errors(rows, name),
            "deepseek_v3_step_s": steps[name],
        }
        for name in names
    ]
    return {"deepseek_v3_step_s": step_s, "mechanisms": entries}


def _ratio(row: Outcome, name: str) -> float:
    """The step's time without a mechanism over that with all."""
    assert row.figure is not None
    return row.steps_without[name] / row.figure.step_s


def _errors(rows: Sequence[Outcome], name: str) -> dict[str, float]:
    told: dict[str, float] = {}
    for prefix, kinds in KINDS.items():
        errors = [row.time_ratio[0] * _ratio(row, name) - 1.0 for row in rows if row.labels.get("kind") in kinds]
        if errors:
            figures = error_figures(errors)
            told |= {f"{prefix}{key}": figures[key] for key in ("mape", "bias")}
    return told
