"""Framework releases: what a training framework does where a scenario does not say (frameworks/NAME@RELEASE.yaml).

A file holds switches only, each with the recipe, document or argument default that says so; no number in it multiplies a
time. A switch whose key or value no mechanism computes yet (simulator/not_modelled.py) is told and sets nothing.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from hwprofiles.problem import Problem
from hwprofiles.record_file import CatalogError, read_located
from simulator import not_modelled
from simulator.registry import Family
from simulator.scenario.nested import find, put
from simulator.scenario.parallel import Parallel
from simulator.scenario.plan import Precision

FRAMEWORKS: Final = Path(__file__).parent / "frameworks"
FOLLOWS: Final = "same_as"
"""A value of one key that is another key's: {same_as: parallel.tp}."""
ABOVE: Final = "> "
"""How a condition on a number begins."""


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"is no regular expression ({error})") from None
    return text


def _condition(value: Any) -> Any:
    for each in value if isinstance(value, list) else [value]:
        if isinstance(each, str) and each.startswith(ABOVE):
            try:
                float(each.removeprefix(ABOVE))
            except ValueError:
                raise ValueError('is no number behind ">"; write "> 1"') from None
    return value


Pattern = Annotated[str, AfterValidator(_pattern)]
Condition = Annotated[Any, AfterValidator(_condition)]


class _Conditional(_Entry):
    """when: dotted key, or `model` (the model's name) or `gpu` → what it must be: a value, a list of values, a pattern with *
    of a text (any case), null where nothing is given, or "> N" of a number; all of them must hold.
    source: what says so; "": the file's own.
    """

    when: dict[str, Condition] = {}
    source: str = Field(default="", max_length=500)


class Switch(_Conditional):
    """Keys that are set together, or not at all where the scenario gives one of them."""

    set: dict[str, Any] = Field(min_length=1)


class Beside(_Conditional):
    """What the software does and no key of the scenario format can say."""

    what: str = Field(min_length=1, max_length=200)


class Matches(_Entry):
    """Patterns (regular expressions, any case) of a published row's columns that name this release: all of them hold."""

    framework: Pattern = ""
    source_url: Pattern = ""
    source_detail: Pattern = ""
    case_id: Pattern = ""


class Reading(_Entry):
    """Words of a row's notes that say how it was run: keys that they give."""

    pattern: Pattern = Field(min_length=1)
    set: dict[str, Any] = Field(min_length=1)
    source: str = Field(min_length=1, max_length=500)


class Release(_Entry):
    """One file. source: of what gives none itself; extends: a release whose entries come before; matches, reads: for published
    rows (validation/published).
    """

    summary: str = Field(min_length=1, max_length=500)
    date: str = ""
    source: str = Field(default="", max_length=500)
    extends: str | None = None
    switches: tuple[Switch, ...] = ()
    beside: tuple[Beside, ...] = ()
    matches: tuple[Matches, ...] = ()
    reads: tuple[Reading, ...] = ()

    @model_validator(mode="after")
    def _says_something(self) -> Release:
        if not self.switches and self.extends is None:
            raise ValueError("has neither switches nor a release that it extends")
        if not self.source and not all(entry.source for entry in (*self.switches, *self.beside)):
            raise ValueError("has a switch without a source")
        return self

    def sourced(self) -> Release:
        """The same with the file's source where an entry has none."""
        switches = tuple(entry.model_copy(update={"source": entry.source or self.source}) for entry in self.switches)
        beside = tuple(entry.model_copy(update={"source": entry.source or self.source}) for entry in self.beside)
        return self.model_copy(update={"switches": switches, "beside": beside})


@dataclass(frozen=True, slots=True)
class SetSwitch:
    """A key that a release sets in a scenario. is_modelled: false where nothing computes it and it was left out; `key` is then
    the key that it will have, or words where the format has none.
    """

    key: str
    value: Any
    source: str
    is_modelled: bool = True


RELEASES: Final[Family[Path]] = Family("framework release")
"""name@release → its file."""
for _file in sorted(FRAMEWORKS.glob("*.yaml")):
    RELEASES.add(_file.stem, _file)


@cache
def load_release(name: str) -> Release:
    """A release with the switches and readings of those that it extends before its own.

    Raises CatalogError: no such release, a file that is wrong, or a circle.
    """
    return _load(name, ())


def _load(name: str, seen: tuple[str, ...]) -> Release:
    problem = RELEASES.problem(name)
    if problem is not None:
        raise CatalogError(problem)
    if name in seen:
        raise CatalogError([Problem(f"frameworks/{name}.yaml", "extends", "extends itself")])
    release, _ = read_located(RELEASES[name], Release, f"frameworks/{name}.yaml")
    release = release.sourced()
    if release.extends is None:
        return release
    base = _load(release.extends, (*seen, name))
    joined = {field: getattr(base, field) + getattr(release, field) for field in ("switches", "beside", "reads")}
    return release.model_copy(update=joined)


def set_switches(name: str, data: dict[str, Any], gpu: str | None) -> tuple[SetSwitch, ...]:
    """Put a release's switches into a scenario's keys where nothing stands yet; returns what was set, in the files' order.

    Of two switches of one key whose conditions hold, the later counts; a condition reads what switches before it set. A
    switch one of whose keys the scenario gives is left out whole.
    """
    release = load_release(name)
    given = {key for switch in release.switches for key in switch.set if _value(data, key) is not None}
    chosen: dict[str, SetSwitch] = {}
    for switch in release.switches:
        if given & switch.set.keys() or not _holds(switch.when, data, gpu):
            continue
        for key, value in switch.set.items():
            taken = _value(data, value[FOLLOWS]) if isinstance(value, Mapping) and FOLLOWS in value else value
            if taken is None or _is_so_anyway(key, taken):
                continue
            chosen[key] = SetSwitch(key, taken, switch.source, _is_modelled(key, taken))
            if chosen[key].is_modelled:
                put(data, tuple(key.split(".")), taken)
    words = (
        SetSwitch(entry.what, True, entry.source, False) for entry in release.beside if _holds(entry.when, data, gpu)
    )
    return (*chosen.values(), *words)


def _is_so_anyway(key: str, value: Any) -> bool:
    """Whether the format names the key and this value is how things are without it."""
    return any(value == known for entry in not_modelled.entries("key") if entry.name == key for known in entry.now)


def _is_modelled(key: str, value: Any) -> bool:
    """Whether a mechanism computes the key, and this value of it."""
    if not_modelled.instead("key", key) is not None:
        return False
    planned = not_modelled.values(key)
    return not (isinstance(value, str) and value in planned)


def _holds(when: Mapping[str, Any], data: Mapping[str, Any], gpu: str | None) -> bool:
    return all(_is(_told(data, key, gpu), wanted) for key, wanted in when.items())


def _told(data: Mapping[str, Any], key: str, gpu: str | None) -> Any:
    """What a condition reads: the key's value, or what the schema has where the scenario does not give it."""
    if key == "gpu":
        return gpu
    told = _value(data, "model.name" if key == "model" else key)
    return _PLAIN.get(key) if told is None else told


_PLAIN: Final[Mapping[str, Any]] = {
    **{f"parallel.{name}": Parallel.model_fields[name].default for name in ("tp", "pp", "vpp", "ep", "etp")},
    "parallel.schedule": Parallel.model_fields["schedule"].default,
    "precision.recipe": Precision.model_fields["recipe"].default,
}


def _value(data: Mapping[str, Any], key: str) -> Any:
    return find(data, tuple(key.split(".")))


def _is(told: Any, wanted: Any) -> bool:
    if isinstance(wanted, list):
        return any(_is(told, each) for each in wanted)
    if isinstance(wanted, str) and wanted.startswith(ABOVE):
        return isinstance(told, int | float) and told > float(wanted.removeprefix(ABOVE))
    if isinstance(wanted, str):
        return isinstance(told, str) and fnmatch.fnmatchcase(told.lower(), wanted.lower())
    return bool(told == wanted)


def catalogue() -> Iterator[dict[str, Any]]:
    """Every release for `moesim list frameworks`: its switches with their sources, and which are not modelled yet."""
    for name in RELEASES:
        release = load_release(name)
        yield {
            "name": name,
            "summary": release.summary,
            "date": release.date,
            "num_switches": len(release.switches),
            "sets": sorted({key for switch in release.switches for key in switch.set}),
            "switches": [switch.model_dump(mode="json", exclude_defaults=True) for switch in release.switches],
        }
