"""Stated assumptions: those that do not depend on hardware (assumptions.yaml), the stack's, a scenario's own values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict

from hwprofiles.assumption_units import bounds_problem
from hwprofiles.names import nearest
from hwprofiles.provenance import Source
from hwprofiles.record_file import read_located
from hwprofiles.stack_records import Assumption, Stack
from simulator.errors import InputError, Problem
from simulator.scenario.host_speed import HOST_SPEED, of_host
from simulator.scenario.phase_assumptions import assumptions_of, phase_assumptions
from simulator.scenario.phase_kinds import Kind
from simulator.scenario.plan import AssumptionOverride
from simulator.scenario.scenario import Scenario
from simulator.scenario.wording import FieldProblem

ASSUMPTIONS: Final = Path(__file__).parent / "assumptions.yaml"


class AssumptionFile(BaseModel):
    """The content of an assumptions.yaml: a list of assumptions."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    assumptions: tuple[Assumption, ...]


@cache
def read_assumptions(path: Path = ASSUMPTIONS) -> Mapping[str, Assumption]:
    """Key → assumption of a file. Raises InputError: unreadable, not the format, or a key twice."""
    file, document = read_located(path, AssumptionFile, path.name, InputError)
    found: dict[str, Assumption] = {}
    for idx, entry in enumerate(file.assumptions):
        if entry.key in found:
            raise InputError(
                [Problem(f"{path.name}:{document.line(('assumptions', idx))}", entry.key, "is there twice")]
            )
        found[entry.key] = entry
    return found


def resolve_assumptions(scenario: Scenario, stack: Stack) -> dict[str, Assumption]:
    """Key → assumption, the scenario's values in place of the stated ones; of equal keys the stack's.

    An override without low and high is taken as exact. Raises InputError with every override that is of no assumption,
    or of a value that the assumption cannot have.
    """
    stated = {**read_assumptions(), **stack.assumptions}
    stated[HOST_SPEED] = of_host(stated[HOST_SPEED], scenario, stack)
    problems = [Problem(scenario.where(field), field, text) for field, text in assumption_problems(scenario, stated)]
    if problems:
        raise InputError(problems)
    return {
        key: _override(assumption, scenario.assumptions[key]) if key in scenario.assumptions else assumption
        for key, assumption in stated.items()
    }


def kind_assumptions(scenario: Scenario, kind: Kind) -> dict[str, Assumption]:
    """Key → assumption of what a phase of this kind rests on beside its step, the scenario's values in place of the stated."""
    return {
        key: _override(each, scenario.assumptions[key]) if key in scenario.assumptions else each
        for key, each in assumptions_of(kind).items()
    }


def assumption_problems(scenario: Scenario, of_step: Mapping[str, Assumption]) -> Iterator[FieldProblem]:
    """Overrides that are of no stated assumption of a step or a phase, or outside the bounds of its unit."""
    stated = {**phase_assumptions(), **of_step}
    for key, override in scenario.assumptions.items():
        field = f"assumptions.{key}"
        if key not in stated:
            yield field, f"no assumption of this key{nearest(key, stated)}"
            continue
        was = stated[key]
        numbers = (override.value, override.low, override.high)
        problem = next((text for number in numbers if (text := bounds_problem(number, was.unit)) is not None), None)
        if problem is not None:
            yield field, f"{problem}; stated is {was.value:g} ({was.low:g} to {was.high:g})"


def _override(assumption: Assumption, override: AssumptionOverride) -> Assumption:
    stated = f"{assumption.value:g} ({assumption.low:g} to {assumption.high:g})"
    return assumption.model_copy(
        update={
            "value": override.value,
            "low": override.low,
            "high": override.high,
            "source": Source(kind="assumed", where="the scenario"),
            "reason": f"the scenario's own value in place of {stated}",
        }
    )
