"""What a scenario says, for people: first where it differs from the preset that it is nearest to, then every key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from simulator.check import load_scenario
from simulator.report import facts, numbers
from simulator.results.changes import ChangedInput, changed_inputs
from simulator.results.document import JsonValue
from simulator.results.run_result import RunResult
from simulator.scenario.layers import preset_names

MAX_VALUE: Final = 120
SAME_MODEL: Final = "hidden_size", "num_layers", "vocab_size"


@dataclass(frozen=True, slots=True)
class Input:
    """A key of the resolved scenario. is_default: whether neither a file nor an option gave it."""

    key: str
    value: str
    is_default: bool


@dataclass(frozen=True, slots=True)
class Differences:
    """What differs from a preset: (key, the preset's value, this one), in the scenario's order."""

    preset: str
    rows: tuple[tuple[str, str, str], ...]


def from_preset(result: RunResult) -> Differences | None:
    """The preset of the same model that fewest keys differ from; None where no preset has this model."""
    found: list[tuple[int, str, tuple[ChangedInput, ...]]] = []
    for name, scenario in _presets().items():
        if _model(scenario) == _model(result.scenario):
            changes = changed_inputs(scenario, result.scenario)
            found.append((len(changes), name, changes))
    if not found:
        return None
    _, preset, changes = min(found, key=lambda each: each[:2])
    return Differences(
        preset, tuple((each.key, _shown(each.key, each.from_), _shown(each.key, each.to)) for each in changes)
    )


def all_inputs(result: RunResult) -> tuple[Input, ...]:
    """Every key of the scenario but the model's own, which the model's line names, in its order."""
    defaults = set(result.defaults_used)
    return tuple(
        Input(key, _shown(key, value), _is_default(key, defaults))
        for key, value in _leaves(result.scenario)
        if value is not None
    )


@cache
def _presets() -> Mapping[str, Mapping[str, JsonValue]]:
    return {name: load_scenario(name).canonical() for name in preset_names()}


def _model(scenario: Mapping[str, JsonValue]) -> tuple[Any, ...]:
    model = scenario.get("model")
    return tuple(model.get(key) for key in SAME_MODEL) if isinstance(model, Mapping) else (None,)


def _leaves(value: JsonValue, path: str = "") -> Iterator[tuple[str, JsonValue]]:
    if isinstance(value, Mapping) and value:
        for key, child in value.items():
            yield from _leaves(child, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and value and all(isinstance(child, Mapping) for child in value):
        for place, child in enumerate(value):
            name = child.get("name", place)
            yield from _leaves({key: each for key, each in child.items() if key != "name"}, f"{path}.{name}")
    else:
        yield path, value


def _is_default(key: str, defaults: set[str]) -> bool:
    """Whether the key, or a section that it is in, was not given."""
    parts = key.split(".")
    return any(".".join(parts[:count]) in defaults for count in range(1, len(parts) + 1))


def _shown(key: str, value: JsonValue) -> str:
    if value is None:
        return "–"
    if isinstance(value, Mapping | list):
        value = ", ".join(map(str, value)) if value else "none"
    if isinstance(value, float) and value.is_integer():
        value = numbers.amount(value)
    return facts.cut(numbers.by_key(key, value), MAX_VALUE)
