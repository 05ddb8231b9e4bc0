"""Splits what a layer says of a phase: the phase's own keys, and those of the scenario that it gives in its own way.

The latter are a layer of their own, which is laid over all layers of the scenario (`phase_scenarios`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from hwprofiles.problems import show
from hwprofiles.yaml_file import KeyPath
from simulator.scenario.layer import Layer
from simulator.scenario.phase import SECTIONS, SHORTCUTS

_TRAINING: Final = "training"

WHOLE_RUN: Final = ("assumptions", "mechanisms", "draws", "seed", "start_date", "currency")
"""Keys of a scenario that are of all its phases."""


def split_phase(entry: Mapping[str, Any], key: str | int, layer: Layer) -> tuple[dict[str, Any], Layer | None]:
    """(keys of the phase itself, what it says of the scenario's sections). key: the phase's place or name in `layer`.

    A section that is null says nothing. Shortcuts stand among the keys of `training` in the layer.
    """
    others = (*SECTIONS, *SHORTCUTS, *WHOLE_RUN)
    own = {name: value for name, value in entry.items() if name not in others}
    changes = {name: value for name, value in entry.items() if name in SECTIONS and value is not None}
    short = {name: value for name, value in entry.items() if name in SHORTCUTS and value is not None}
    if short and isinstance(changes.get(_TRAINING, {}), dict):
        changes[_TRAINING] = {**short, **changes.get(_TRAINING, {})}
    if not changes:
        return own, None

    def written(path: KeyPath) -> KeyPath:
        is_short = len(path) > 1 and path[0] == _TRAINING and path[1] in short
        return ("phases", key, *(path[1:] if is_short else path))

    assigned = None if layer.assigned is None else dict(_assigned(layer.assigned, key, changes))
    return own, replace(
        layer, data=changes, where=lambda path: layer.where(written(path)), assigned=assigned, model_name=None
    )


def below_phase(layer: Layer, idx: int) -> Layer:
    """The layer of a phase's sections as one whose paths begin at the scenario."""
    assigned = None if layer.assigned is None else {("phases", idx, *path): n for path, n in layer.assigned.items()}
    return replace(layer, where=lambda path: layer.where(path[2:]), assigned=assigned)


def phase_problems(entry: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(key of the phase, message): keys given twice, and those that are of the whole run."""
    training = entry.get(_TRAINING)
    for name in sorted(SHORTCUTS):
        given = entry.get(name)
        if given is not None and isinstance(training, Mapping) and name in training:
            yield name, f"{show(given)}, and training.{name} {show(training[name])} in the same phase; leave one out"
    for name in WHOLE_RUN:
        if name in entry:
            yield name, "is of the whole run, not of a phase; write it beside `phases`"


def _assigned(
    assigned: Mapping[KeyPath, int], key: str | int, changes: Mapping[str, Any]
) -> Iterator[tuple[KeyPath, int]]:
    """The options' numbers by the path below the phase; a shortcut's by its path in `training`."""
    for path, number in assigned.items():
        if path[:1] != ("phases",) or path[1:2] not in ((), (key,)):
            continue
        if len(path) <= 2:
            yield from (((name,), number) for name in changes)
        else:
            yield (_TRAINING, path[2]) if path[2] in SHORTCUTS else path[2:], number
