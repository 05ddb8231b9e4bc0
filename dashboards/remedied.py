"""What to press where a scenario cannot be: the nearest values that can, and the way back."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

from dashboards import controls
from dashboards.keys import BY_NAME, SCENARIO_KEYS, text_of
from dashboards.link import path_of
from dashboards.source import Source
from simulator.errors import InputError
from simulator.remedies import Remedy
from simulator.scenario.draft import SHORTHANDS
from simulator.scenario.load import UnfitScenario
from simulator.scenario.scenario import Scenario

KEPT: Final = 64
MAX_OFFERED: Final = 8
_NAMED: Final = re.compile(r"--set (\S+=\S+)")


@dataclass(frozen=True, slots=True)
class Offer:
    """A button. words: what it sets; changes: name in the link → its text, None: taken back; solves: everything fits then."""

    words: str
    changes: Mapping[str, str | None]
    solves: bool


def unfit(source: Source) -> Scenario | None:
    """What is asked for, where only its keys do not fit one another; None where not even that can be said."""
    error = source.error()
    return error.scenario if isinstance(error, UnfitScenario) else None


@lru_cache(maxsize=KEPT)
def offers(source: Source, found: tuple[Remedy, ...]) -> tuple[Offer, ...]:
    """The nearest values that work, then what takes a change back. found: what work/remedies.py finds for the source."""
    error = source.error()
    if error is None:
        return ()
    names = {path_of(key.path, source.plain()): key.name for key in SCENARIO_KEYS}
    offered = [offer for each in found if (offer := _offer(each, names)) is not None]
    return (*offered[:MAX_OFFERED], *_backward(source, error, names, [dict(each.changes) for each in offered]))


def _offer(remedy: Remedy, names: Mapping[str, str]) -> Offer | None:
    """None where the link has no name for a key, or cannot say the value."""
    changes: dict[str, str | None] = {}
    for key, value in remedy.changes:
        name, text = names.get(key), text_of(value)
        if name is None or BY_NAME[name].read(text) is None:
            return None
        changes[name] = text
    return Offer(_set_words(changes), changes, remedy.solves)


def link_changes(overrides: Iterable[str]) -> dict[str, str] | None:
    """The names and texts of `key=value` changes in the link; None where it cannot say one of them."""
    names = {key.path: key.name for key in SCENARIO_KEYS}
    changes: dict[str, str] = {}
    for override in overrides:
        path, _, text = override.partition("=")
        name = names.get(whole_key(path))
        read = None if name is None else BY_NAME[name].read(text)
        if name is None or read is None:
            return None
        changes[name] = read
    return changes


def whole_key(path: str) -> str:
    """A section that is written as one word stands for one of its keys."""
    return f"{path}.{SHORTHANDS[path]}" if path in SHORTHANDS else path


def named(source: Source, lines: Sequence[str]) -> tuple[Offer, ...]:
    """What messages name as `--set key=value`: a button each, where the link can say it, and the scenario loads with it and
    differs.
    """
    found = dict.fromkeys(text.rstrip("`.,;:)") for line in lines for text in _NAMED.findall(line))
    offered = (_named(source, text) for text in found)
    return tuple(offer for offer in offered if offer is not None)


def _named(source: Source, override: str) -> Offer | None:
    changes = link_changes([override])
    changed = replace(source, overrides=(*source.overrides, override))
    if not changes or changed.error() is not None or changed.load() == source.load():
        return None
    return Offer(f"Set {_set_words(changes)}", changes, solves=True)


def _set_words(changes: Mapping[str, str | None]) -> str:
    return " and ".join(f"{controls.LABELS.get(name, name)}: {_shown(str(text))}" for name, text in changes.items())


def _backward(
    source: Source, error: InputError, names: Mapping[str, str], others: Collection[Mapping[str, str | None]]
) -> list[Offer]:
    """Taking back a change that is blamed, where the scenario loads then and no other offer sets the same."""
    offered = []
    for field in dict.fromkeys(problem.field for problem in error.problems):
        kept = tuple(each for each in source.overrides if each.partition("=")[0] != field)
        before = replace(source, overrides=kept)
        if field not in names or kept == source.overrides or before.error() is not None:
            continue
        name = names[field]
        now = text_of(controls.value(name, before.load(), source))
        if {name: now} not in others:
            offered.append(
                Offer(f"Back to {controls.LABELS.get(name, name)}: {_shown(now)}", {name: None}, solves=True)
            )
    return offered


def _shown(text: str) -> str:
    """A value as people read it."""
    words = {"true": "on", "false": "off", "null": "none"}
    return f"{int(text):,}" if text.isdecimal() else words.get(text, text)
