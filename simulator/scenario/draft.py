"""Puts layers of keys on one another: presets, files, then `--set` options. Keeps where each key came from.

Mappings merge key by key, lists and scalars replace; phases are addressed by name where a layer writes them as a
mapping. A change of some keys drops inherited values that were chosen for the old one (`_DROPS`).
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from hwprofiles.names import nearest
from hwprofiles.problems import show
from hwprofiles.yaml_file import KeyPath
from simulator.errors import Problem
from simulator.scenario.inherited import State
from simulator.scenario.layer import Layer
from simulator.scenario.nested import find
from simulator.scenario.phase import SHORTCUTS
from simulator.scenario.phase_layers import below_phase, phase_problems, split_phase
from simulator.scenario.recipes import DEFAULT_KEYS

RECIPE: Final = ("precision", "recipe")
"""Sets other keys anew, which needs no note."""

_DROPS: Final[tuple[tuple[KeyPath, tuple[KeyPath, ...]], ...]] = (
    (("cluster", "node"), (("stack",), ("cluster", "gpus_per_domain"), ("kernels", "casts"))),
    (("model",), (("moe", "max_nodes_per_token"), ("parallel", "layers_per_stage"))),
    (RECIPE, DEFAULT_KEYS),
    (("parallel", "pp"), (("parallel", "layers_per_stage"),)),
    (("parallel", "vpp"), (("parallel", "layers_per_stage"),)),
)
"""(key, keys that its change drops): a stack is of one GPU, the GPUs used of a domain are those of one node, a node limit is
of one router, a layout of one model and so many stages, a recipe sets formats.
"""

_SCHEDULE: Final = ("parallel", "schedule")
_CHUNKS: Final = ("parallel", "vpp")
_LAYOUT: Final = ("parallel", "layers_per_stage")
_GRANULARITY: Final = ("recompute", "granularity")
_OF_GRANULARITY: Final = tuple(("recompute", key) for key in ("modules", "method", "num_layers"))

_ALTERNATIVES: Final[tuple[tuple[str, str], ...]] = (("tokens", "steps"),)
_PRICE_ALTERNATIVES: Final = ("usd_per_gpu_hour", "sheet")
_OF_SHEET: Final = frozenset({"provider", "region", "commitment"})
"""Keys of prices that mean nothing without the sheet."""
_PRICE: Final = ("prices", "usd_per_gpu_hour")
_OFFERS: Final = tuple(("prices", key) for key in sorted(_OF_SHEET))

_POSITION: Final = re.compile(r"(.*)[: \[](\d+)\]?")

SHORTHANDS: Final[Mapping[str, str]] = {"precision": "recipe", "recompute": "granularity"}
"""Sections that may be written as one word, and the key that the word is the value of."""


def dropped_by(data: Mapping[str, Any]) -> Iterator[KeyPath]:
    """Keys that a layer drops unless it gives them."""
    pairs = (*_DROPS, (_SCHEDULE, (_CHUNKS, _LAYOUT)), (_GRANULARITY, _OF_GRANULARITY), (_PRICE, _OFFERS))
    for key, dropped in pairs:
        if find(data, key) is not None:
            yield from dropped


_NAMED: Final[frozenset[KeyPath]] = frozenset({("model",), ("cluster", "node"), ("cluster", "fabric")})
"""Keys whose text is a catalogue name: a single key below a name cannot be merged."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """An inherited value that fell because a key it was chosen for changed."""

    path: KeyPath
    old: Any
    cause: KeyPath


_WHOLE_MODEL: Final = frozenset({"hidden_size", "num_layers", "vocab_size", "attention", "num_dense_layers"})
"""A mapping with all of these is a model of its own; one with fewer changes the model that is there."""


def _is_partial_model(value: Any) -> bool:
    return isinstance(value, dict) and not set(value) >= _WHOLE_MODEL


def _changes_kind(old: Any, new: Any) -> bool:
    """Whether a mapping is of another kind than the one that is there, whose keys then mean nothing."""
    return isinstance(old, dict) and isinstance(new, dict) and new.get("kind") not in (None, old.get("kind"))


@dataclass
class Draft:
    """A scenario in the making. origins: key path → (number, position, folder that paths start from).

    The number grows from layer to layer, and from option to option: of two keys the later one has the larger. dropped:
    inherited values that fell. read_model: puts a model's keys in place of its name, so that single keys of it can be
    changed. own_chunks: as of `Checks`. history: what stood there after each layer. reads_files:
    whether a model may be named by a path. own: place of a phase → the layers of what it says of the scenario's sections.
    """

    data: dict[str, Any] = field(default_factory=dict)
    origins: dict[KeyPath, tuple[float, str, Path]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)
    num_layers: int = 0
    read_model: Callable[[Draft], None] | None = None
    own_chunks: Callable[[str], int | None] | None = None
    history: list[State] = field(default_factory=list)
    reads_files: bool = True
    own: dict[int, list[Layer]] = field(default_factory=dict)

    def put(self, layer: Layer) -> None:
        """Lay a layer over what is there."""
        self.num_layers += 1
        data = _expand(layer.data)
        self._drop_inherited({**data, "model": layer.model_name} if layer.model_name else data)
        if layer.model_name is not None:
            self._merge(self.data, {"model": layer.model_name}, (), layer)
        self._merge(self.data, data, (), layer)
        node, stack = copy.deepcopy(find(self.data, ("cluster", "node"))), find(self.data, ("stack",))
        self.history.append(State(self.num_layers, layer.name, node, stack))

    def where(self, path: KeyPath) -> str:
        """Position of a key path, or of its nearest parent."""
        return self._origin(path)[1]

    def folder(self, path: KeyPath) -> Path:
        """The folder that a path written at this key starts from."""
        return self._origin(path)[2]

    def refuse(self, path: KeyPath, message: str) -> None:
        """Note a problem at a key path."""
        self.problems.append(Problem(self.where(path), self.dotted(path), message))

    def in_order(self, problems: Iterable[Problem]) -> list[Problem]:
        """Problems in the order of the layers, and of the lines of each; those without a position last."""
        first: dict[str, float] = {}
        for number, where, _ in self.origins.values():
            place, _line = _place_and_line(where)
            first[place] = min(number, first.get(place, number))
        last = self.num_layers + 1
        key = lambda problem: (first.get(_place_and_line(problem.where)[0], last), _place_and_line(problem.where)[1])  # noqa: E731
        return sorted(problems, key=key)

    def dropped_texts(self) -> tuple[str, ...]:
        """What fell because another key changed, one text a value."""
        return tuple(
            f"{self.dotted(entry.path)} {show(entry.old)}, chosen for another {self.dotted(entry.cause)}"
            for entry in self.dropped
        )

    def dropped_notes(self) -> list[Problem]:
        """What fell because another key changed, one note a key that changed."""
        notes: dict[KeyPath, list[str]] = {}
        for entry in self.dropped:
            notes.setdefault(entry.cause, []).append(f"{self.dotted(entry.path)} {show(entry.old)}")
        return [
            Problem(
                self.where(cause),
                self.dotted(cause),
                f"is changed; what was chosen for the old one falls: {', '.join(texts)}; give it anew to keep it",
            )
            for cause, texts in notes.items()
        ]

    def dotted(self, path: KeyPath) -> str:
        """The path as people write it: phases by name."""
        parts = [part if part.isprintable() else repr(part)[1:-1] for part in map(str, path)]
        if len(path) > 1 and path[0] == "phases" and isinstance(path[1], int):
            phase = self.data["phases"][path[1]] if path[1] < len(self.data.get("phases") or ()) else None
            if isinstance(phase, dict) and isinstance(phase.get("name"), str) and len(phase["name"]) <= 40:
                parts[1] = phase["name"]
        return ".".join(parts)

    def _origin(self, path: KeyPath) -> tuple[float, str, Path]:
        for length in range(len(path), -1, -1):
            if path[:length] in self.origins:
                return self.origins[path[:length]]
        return 0, "", Path()

    def _drop_inherited(self, data: Mapping[str, Any]) -> None:
        """Remove what was chosen for another value of a key that this layer changes, unless the layer gives it anew."""
        for key, dropped in _DROPS:
            new, old = find(data, key), find(self.data, key)
            if new is None or new == old or (key == ("model",) and _is_partial_model(new)):
                continue
            for path in dropped:
                self._drop(path, key, data, is_told=old is not None and key != RECIPE)
        self._drop_chunks(data)
        granularity = find(data, _GRANULARITY)
        if granularity in ("none", "full") and find(data, ("recompute", "modules")) is None:
            self._remove(("recompute", "modules"))
        if granularity in ("none", "selective"):
            for name in ("method", "num_layers"):
                if find(data, ("recompute", name)) is None:
                    self._remove(("recompute", name))

    def put_chunks(self) -> None:
        """Give the chunks a rank that the schedule has where the scenario does not say."""
        if (chunks := self._own_chunks(find(self.data, _SCHEDULE))) not in (None, 1) and not _has(self.data, _CHUNKS):
            self.data["parallel"][_CHUNKS[-1]] = chunks

    def _own_chunks(self, schedule: Any) -> int | None:
        return self.own_chunks(schedule) if isinstance(schedule, str) and self.own_chunks is not None else None

    def _drop_chunks(self, data: Mapping[str, Any]) -> None:
        """Remove inherited chunks a rank, and their layout, where a layer changes to a schedule that has another number."""
        new, stated = self._own_chunks(find(data, _SCHEDULE)), find(self.data, _CHUNKS)
        if new is None or _has(data, _CHUNKS):
            return
        before = self._own_chunks(find(self.data, _SCHEDULE)) or 1 if stated is None else stated
        if before != new:
            for path in (_CHUNKS, _LAYOUT):
                self._drop(path, _SCHEDULE, data, is_told=True)

    def _drop(self, path: KeyPath, cause: KeyPath, data: Mapping[str, Any], *, is_told: bool) -> None:
        """Remove an inherited value, unless the layer gives it anew."""
        inherited = find(self.data, path)
        if inherited is not None and not _has(data, path):
            self._remove(path)
            if is_told:
                self.dropped.append(Dropped(path, inherited, cause))

    def _merge(self, old: dict[str, Any], new: Mapping[str, Any], path: KeyPath, layer: Layer) -> None:
        self._drop_alternatives(old, new, path)
        for key, value in new.items():
            here = (*path, key)
            if here == ("model",) and self.read_model and _is_partial_model(value) and isinstance(old.get(key), str):
                self.read_model(self)
            existing = old.get(key)
            if here == ("model", "attention") and _changes_kind(existing, value):
                existing = None
            if here == ("phases",) and isinstance(value, dict):
                self._merge_phases(old, value, layer)
            elif here == ("phases",) and isinstance(value, list):
                self._put_phases(old, value, layer)
            elif isinstance(value, dict) and isinstance(existing, dict):
                self._merge(existing, value, here, layer)
            elif isinstance(value, dict) and isinstance(existing, str) and self._is_below_name(here, layer):
                message = (
                    f"is the name {show(existing)} here, so that a single key of it cannot be set; give a whole mapping"
                )
                self.problems.append(Problem(layer.where(here), self.dotted(here), message))
            else:
                self._forget(here)
                old[key] = copy.deepcopy(value)
                self._remember(here, value, layer)

    @staticmethod
    def _is_below_name(path: KeyPath, layer: Layer) -> bool:
        """Whether an option sets a single key below a catalogue name."""
        return path in _NAMED and layer.assigned is not None and path not in layer.assigned

    def _drop_alternatives(self, old: dict[str, Any], new: Mapping[str, Any], path: KeyPath) -> None:
        """A phase's new length replaces the inherited one, and a price an inherited sheet."""
        pairs = [_PRICE_ALTERNATIVES] if path == ("prices",) else []
        if path == ("prices",) and _PRICE_ALTERNATIVES[0] in new:
            for chosen in _OF_SHEET - new.keys():
                old.pop(chosen, None)
                self._forget((*path, chosen))
        if len(path) == 2 and path[0] == "phases":
            pairs += _ALTERNATIVES
        for one, other in pairs:
            for given, replaced in ((one, other), (other, one)):
                if given in new and replaced not in new and replaced in old:
                    del old[replaced]
                    self._forget((*path, replaced))

    def _merge_phases(self, old: dict[str, Any], new: Mapping[str, Any], layer: Layer) -> None:
        """Phases written as {name: {...}} change the phases of these names."""
        phases = old.get("phases")
        phases = phases if isinstance(phases, list) else []
        names = [phase.get("name") if isinstance(phase, dict) else None for phase in phases]
        for name, changes in new.items():
            where = layer.where(("phases", name))
            if name not in names:
                known = nearest(name, [entry for entry in names if isinstance(entry, str)])
                self.problems.append(Problem(where, "phases", f"no phase of the name {show(name)}{known}"))
            elif not isinstance(changes, dict):
                self.problems.append(Problem(where, f"phases.{name}", f"is not a mapping ({show(changes)})"))
            else:
                idx = names.index(name)
                own = self._split(changes, idx, name, layer)
                self._merge(phases[idx], own, ("phases", idx), _of_phase(layer, name, idx, own))

    def _put_phases(self, old: dict[str, Any], phases: list[Any], layer: Layer) -> None:
        """A list of phases replaces the one that is there."""
        self._forget(("phases",))
        self.own.clear()
        self._remember(("phases",), phases, layer)
        old["phases"] = [
            copy.deepcopy(self._split(phase, idx, idx, layer) if isinstance(phase, dict) else phase)
            for idx, phase in enumerate(phases)
        ]

    def _split(self, changes: Mapping[str, Any], idx: int, key: str | int, layer: Layer) -> dict[str, Any]:
        """The keys of a phase itself; what it says of the scenario's sections is kept as a layer. key: as in `layer`."""
        for name, message in phase_problems(changes):
            phase = changes.get("name", key)
            self.problems.append(Problem(layer.where(("phases", key, name)), f"phases.{phase}.{name}", message))
        own, of_sections = split_phase(changes, key, layer)
        if of_sections is not None:
            self.own.setdefault(idx, []).append(of_sections)
            below = below_phase(of_sections, idx)
            for section, value in of_sections.data.items():
                self._remember(("phases", idx, section), value, below)
            for name in SHORTCUTS & changes.keys():
                self._remember(("phases", idx, name), changes[name], below)
        return own

    def _remove(self, path: KeyPath) -> None:
        parent = find(self.data, path[:-1])
        if isinstance(parent, dict) and path[-1] in parent:
            del parent[path[-1]]
            self._forget(path)

    def _forget(self, path: KeyPath) -> None:
        for known in [known for known in self.origins if known[: len(path)] == path]:
            del self.origins[known]

    def _remember(self, path: KeyPath, value: Any, layer: Layer) -> None:
        self.origins[path] = (self.num_layers + layer.order(path), layer.where(path), layer.folder)
        children: Iterable[tuple[str | int, Any]] = ()
        if isinstance(value, dict):
            children = value.items()
        elif isinstance(value, list):
            children = enumerate(value)
        for key, child in children:
            self._remember((*path, key), child, layer)


def _place_and_line(where: str) -> tuple[str, int]:
    """("FILE", line) of a position; ("--set", N) of an option."""
    match = _POSITION.fullmatch(where)
    return (match[1], int(match[2])) if match else (where, 0)


def _of_phase(layer: Layer, name: str, idx: int, changes: Mapping[str, Any]) -> Layer:
    """The part of a layer that changes one phase, addressed by its place in the list."""
    assigned = {
        ("phases", idx, *path[2:]): n for path, n in (layer.assigned or {}).items() if path[1:2] in ((), (name,))
    }
    return Layer(changes, lambda path: layer.where(("phases", name, *path[2:])), layer.folder, assigned)


def _expand(data: Mapping[str, Any]) -> dict[str, Any]:
    """`precision: bf16` as `precision: {recipe: bf16}`."""
    return {
        key: {SHORTHANDS[key]: value} if key in SHORTHANDS and isinstance(value, str) else value
        for key, value in data.items()
    }


def _has(data: Mapping[str, Any], path: KeyPath) -> bool:
    parent = find(data, path[:-1])
    return isinstance(parent, Mapping) and path[-1] in parent
