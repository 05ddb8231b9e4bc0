"""Takes what the scenario format names and nothing computes yet (simulator/not_modelled.py) out of a draft.

A planned key may say how things are anyway (`cp: 1`), so that a file that gives every key loads; it then leaves no trace.
Any other value is refused with what to do instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from hwprofiles.problems import keys_at, literals_at, show, values_at
from hwprofiles.yaml_file import KeyPath
from simulator import not_modelled
from simulator.scenario.scenario import Scenario


def take_planned(data: dict[str, Any]) -> Iterator[tuple[KeyPath, str]]:
    """(key path, message) of every planned key and value that is refused; all of them leave `data`."""
    for entry in not_modelled.entries("key"):
        for path, value in _take(data, tuple(entry.name.split("."))):
            if not any(_is_same(value, known) for known in entry.now):
                yield path, f"not modelled yet ({show(value)}); {entry.instead}"
    for section in planned_sections():
        for path, value in _take(data, section):
            if not isinstance(value, dict):
                yield path, f"not modelled yet ({show(value)}); leave it out"
            for key in value if isinstance(value, dict) else ():
                yield (*path, key), "unknown key"
    for entry in not_modelled.entries("value"):
        parts = tuple(entry.name.split("."))
        listed = literals_at(Scenario, parts)
        instead = entry.instead or (f"use {' or '.join(listed)}" if listed else "")
        if instead:  # else a family refuses it
            for path, value in _take_values(data, parts, entry.values):
                yield path, f"not modelled yet ({show(value)}); {instead}"


def planned_sections() -> tuple[tuple[str, ...], ...]:
    """Sections of the format all of whose keys are planned: what is left of one is refused, an empty one is none."""
    parents = {tuple(entry.name.split("."))[:-1] for entry in not_modelled.entries("key")}
    return tuple(
        path for path in sorted(parents) if path and "*" not in path and path[-1] not in keys_at(Scenario, path[:-1])
    )


def _is_same(value: Any, known: Any) -> bool:
    """Equal values of one type; 1 and 1.0 are the same number, 1 and true are not."""
    numbers = all(isinstance(each, int | float) and not isinstance(each, bool) for each in (value, known))
    return (numbers or type(value) is type(known)) and bool(value == known)


def _take(data: Any, parts: Sequence[str]) -> Iterator[tuple[KeyPath, Any]]:
    """Remove the value at a dotted key, and yield (path, value); * stands for every entry of a list."""
    for path, parent in values_at(data, parts[:-1]):
        if isinstance(parent, dict) and parts[-1] in parent:
            yield (*path, parts[-1]), parent.pop(parts[-1])


def _take_values(data: Any, parts: Sequence[str], planned: tuple[str, ...]) -> Iterator[tuple[KeyPath, str]]:
    """Remove planned values of a key, and yield (path, value) of each."""
    if any(isinstance(value, str) and value in planned for _, value in values_at(data, parts)):
        yield from _take(data, parts)
