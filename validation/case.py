"""Published or measured runs: what was predicted from which scenario, and what was read."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from hwprofiles.names import nearest
from hwprofiles.problems import show
from hwprofiles.record_file import read_record
from simulator.errors import InputError

CASES = Path(__file__).parent / "cases"


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Group(_Record):
    """What rows are grouped by in a summary."""

    model: str
    gpu: str
    framework: str
    release: str
    precision: str
    num_gpus: int


class Quantity(_Record):
    """One figure. quantity: dotted path of the result document, or trace.<phase>_s, or memory.allocated_bytes: the most that a
    framework's allocator hands out.

    reading: the rank that a figure is read as, where the source names none; only `edge` rows count in a summary.
    note: what the figure contains and what not, where that is not plain.
    """

    quantity: str
    measured: float
    source: str
    reading: str = "edge"
    note: str = ""


class Case(_Record):
    """A case file. scenario: a preset's name, or a scenario. stacks: each gives its own predictions. overrides: of the
    scenario, as --set takes them.
    """

    case_id: str
    scenario: str | dict[str, Any]
    overrides: tuple[str, ...] = ()
    stacks: tuple[str, ...]
    group: Group
    note: str = ""
    quantities: tuple[Quantity, ...] = Field(min_length=1)

    @property
    def scenario_name(self) -> str:
        """Of a preset, or what the scenario calls itself."""
        return self.scenario if isinstance(self.scenario, str) else str(self.scenario.get("name", self.case_id))


def case_names() -> tuple[str, ...]:
    """All cases, sorted."""
    return tuple(sorted(path.stem for path in CASES.glob("*.yaml")))


@cache
def load_case(name: str) -> Case:
    """The case of that name. Raises InputError: unknown, or a wrong file."""
    if name not in case_names():
        raise InputError(f"no case is called {show(name)}{nearest(name, case_names())}")
    return read_record(CASES / f"{name}.yaml", Case, f"cases/{name}.yaml", InputError)
