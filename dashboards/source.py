"""Which scenario is asked for, as few words as say it: a preset or an uploaded text, and what was changed in it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

from simulator.check import load_scenario
from simulator.errors import InputError, Problem
from simulator.scenario.layers import ScenarioText, preset_names
from simulator.scenario.scenario import Scenario

UPLOADED: Final = "scenario.yaml"
"""What messages call an uploaded text, whatever its name was: the same text is the same source."""
KEPT_SCENARIOS: Final = 64
"""Scenarios, or why they are none, that the process remembers."""


@dataclass(frozen=True, slots=True)
class Source:
    """A scenario to be: hashable and picklable, so that jobs and links can hold it.

    base: a preset's name; for an uploaded text, what messages call it. text: the uploaded YAML, None for a preset.
    overrides: `key.path=value` as of `--set`; a later one wins. No file of this machine is ever read for it.
    """

    base: str
    text: str | None = None
    overrides: tuple[str, ...] = ()

    def load(self) -> Scenario:
        """The scenario. Raises InputError with every problem."""
        loaded = _load(self)
        if isinstance(loaded, InputError):
            raise InputError(loaded.problems)
        return loaded

    def error(self) -> InputError | None:
        """What loading raises; None where it is a scenario."""
        loaded = _load(self)
        return loaded if isinstance(loaded, InputError) else None

    def problems(self) -> tuple[Problem, ...]:
        """Why it is no scenario; none where it is one."""
        error = self.error()
        return () if error is None else error.problems

    def plain(self) -> Source:
        """The same without what was changed."""
        return replace(self, overrides=())

    @property
    def key(self) -> str:
        """SHA-256 of all that the scenario follows from."""
        return hashlib.sha256(json.dumps([self.base, self.text, self.overrides]).encode()).hexdigest()


@lru_cache(maxsize=KEPT_SCENARIOS)
def _load(source: Source) -> Scenario | InputError:
    given: str | ScenarioText = source.base if source.text is None else ScenarioText(source.text, source.base)
    try:
        return load_scenario(given, source.overrides, position_of=_position, reads_files=False)
    except InputError as error:
        return error.with_traceback(None)


def _position(number: int) -> str:
    """How messages name an override: whoever moves a control has no line of a file."""
    return f"change {number}"


def presets() -> tuple[str, ...]:
    """What a source can be based on without an upload."""
    return preset_names()
