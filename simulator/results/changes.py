"""What differs between two resolved scenarios: dotted keys with the value of each, in the order of the scenario.

Phases, and other lists of named mappings, are told apart by name and not by place; any other list is one value. The name of a
scenario is text for people and no input.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from pydantic import Field

from simulator.results.document import JsonValue, ResultModel

NOT_INPUTS: Final = frozenset({"schema_version", "name"})


class ChangedInput(ResultModel):
    """A key of the scenario that is not the same on both sides; absent (None) where it is null or does not exist."""

    key: str
    from_: JsonValue = Field(default=None, serialization_alias="from")
    to: JsonValue = None


def changed_inputs(base: Mapping[str, JsonValue], other: Mapping[str, JsonValue]) -> tuple[ChangedInput, ...]:
    """Keys whose values differ, those of `base` first. base, other: scenarios as resolved (`RunResult.scenario`)."""
    there, here = dict(_leaves(base)), dict(_leaves(other))
    keys = [key for key in dict.fromkeys([*there, *here]) if not _equal(there.get(key), here.get(key))]
    return tuple(ChangedInput(key=key, from_=there.get(key), to=here.get(key)) for key in keys if key not in NOT_INPUTS)


def _equal(one: JsonValue, other: JsonValue) -> bool:
    """Equal as JSON: true is not 1."""
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _leaves(value: JsonValue, path: str = "") -> Iterator[tuple[str, JsonValue]]:
    """(dotted key, value) of everything that is no mapping and no list of named mappings; empty ones are left out."""
    if isinstance(value, Mapping):
        for key, child in value.items():
            yield from _leaves(child, f"{path}.{key}" if path else str(key))
    elif _is_named(value):
        for child in value:
            rest = {key: each for key, each in child.items() if key != "name"}
            yield from _leaves(rest, f"{path}.{child['name']}")
    else:
        yield path, value


def _is_named(value: JsonValue) -> bool:
    """Whether it is a list of mappings that each have a name of their own."""
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        return False
    names = [child.get("name") for child in value if isinstance(child, Mapping)]
    return len(names) == len(value) and all(isinstance(name, str) for name in names) and len(set(names)) == len(names)
