"""Stated assumptions of fine-tuning, reinforcement learning and evaluation: phase_assumptions.yaml. No step of
pre-training rests on them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from hwprofiles.record_file import read_record
from hwprofiles.stack_records import Assumption
from simulator.errors import InputError
from simulator.scenario.phase_kinds import Kind

_FILE: Final = Path(__file__).with_suffix(".yaml")


class KindAssumption(Assumption):
    """An assumption, and the kinds of phases that rest on it."""

    kinds: Annotated[tuple[Kind, ...], Field(min_length=1)]


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    assumptions: tuple[KindAssumption, ...]


@cache
def phase_assumptions() -> Mapping[str, KindAssumption]:
    """Key → assumption. Raises InputError with every problem of the file."""
    found = read_record(_FILE, _File, _FILE.name, InputError).assumptions
    by_key = {each.key: each for each in found}
    assert len(by_key) == len(found), "a key stands twice in phase_assumptions.yaml"
    return by_key


def assumptions_of(kind: Kind) -> Mapping[str, KindAssumption]:
    """Those that a phase of the kind rests on, by key."""
    return {key: each for key, each in phase_assumptions().items() if kind in each.kinds}
