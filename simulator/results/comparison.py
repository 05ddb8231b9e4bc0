"""Runs beside a first one: which inputs changed, which results, and where the difference of the step comes from.

Equal values are left out, so that the same run twice compares as nothing. All figures are those of the results: nothing is
simulated here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from math import fsum
from typing import Final

from pydantic import Field

from hwprofiles.stack_choice import STACK_KINDS, StackKind
from simulator.results.changes import ChangedInput, changed_inputs
from simulator.results.compared_figures import ChangedResult, changed_results
from simulator.results.document import JsonValue, ResultModel
from simulator.results.run_result import RunResult
from simulator.results.step_result import StepTimes

UNEXPLAINED: Final = "other"
"""What categories leave of a difference, where a result's own do not add up to its step."""
ROUNDING: Final = 1e-9
"""Of the step (no unit): what is less is float rounding and no part of a difference."""


MEASURED_WORDS: Final = {"power_limit_w": "power limit", "cuda": "CUDA"}
"""Key of `MeasuredOn` → what it is called; the others by their own name."""


class StepDifference(ResultModel):
    """Seconds that a category adds to the base's step (below 0: takes from it), mean over the pipeline ranks."""

    category: str
    seconds: float


class ComparedRun(ResultModel):
    """Which run a side is: its scenario's name and hash, the version that made it, the stack it rests on, its step."""

    scenario: str
    scenario_sha256: str
    version: str
    stack: str
    stack_kind: StackKind
    step_s: float = Field(gt=0)


class Beside(ResultModel):
    """One run beside the base.

    changed: inputs, in the scenario's order. results: by effect, the biggest first (`compared_figures`).
    step_difference: by size, the biggest first; the parts sum to the difference of the two step_s. warnings: what makes
    the two unlike in kind, a line each. measured_on: what the calibrations of the two stacks state otherwise; absent where
    they agree, or where a stack has none.
    """

    scenario: str
    changed: tuple[ChangedInput, ...]
    measured_on: tuple[ChangedInput, ...] | None = None
    results: tuple[ChangedResult, ...]
    step_difference: tuple[StepDifference, ...]
    warnings: tuple[str, ...] = ()


class Comparison(ResultModel):
    """The document of `moesim compare`. base: name of the first scenario; runs: what each side is, the base first."""

    base: str
    others: tuple[Beside, ...] = Field(min_length=1)
    runs: tuple[ComparedRun, ...] = Field(min_length=2)


def compare(base: RunResult, others: Sequence[RunResult]) -> Comparison:
    """Each of `others` (at least one) beside `base`. Raises ValueError where there is none."""
    if not others:
        raise ValueError("nothing stands beside the base")
    return Comparison(
        base=_name(base),
        others=tuple(_beside(base, other) for other in others),
        runs=tuple(_run(each) for each in (base, *others)),
    )


def step_difference(base: StepTimes, other: StepTimes) -> tuple[StepDifference, ...]:
    """The difference of two steps by category, the biggest first; categories without a difference are left out.

    The parts sum to other.step_s − base.step_s to ROUNDING; UNEXPLAINED is one of them where categories leave more.
    """
    before, after = _by_category(base), _by_category(other)
    parts = {name: after.get(name, 0.0) - before.get(name, 0.0) for name in dict.fromkeys([*before, *after])}
    total = other.step_s - base.step_s
    rest = fsum([total, *(-seconds for seconds in parts.values())])
    if abs(rest) > ROUNDING * max(base.step_s, other.step_s):
        parts[UNEXPLAINED] = parts.get(UNEXPLAINED, 0.0) + rest
    ranked = sorted(parts.items(), key=lambda part: -abs(part[1]))
    return tuple(StepDifference(category=name, seconds=seconds) for name, seconds in ranked if seconds)


def _by_category(step: StepTimes) -> dict[str, float]:
    seconds: dict[str, float] = {}
    for each in step.by_category:
        seconds[each.category] = seconds.get(each.category, 0.0) + each.seconds
    return seconds


def _beside(base: RunResult, other: RunResult) -> Beside:
    return Beside(
        scenario=_name(other),
        changed=changed_inputs(base.scenario, other.scenario),
        measured_on=_measured_on(base, other) or None,
        results=changed_results(base, other),
        step_difference=step_difference(base.step, other.step),
        warnings=tuple(_warnings(base, other)),
    )


def _warnings(base: RunResult, other: RunResult) -> list[str]:
    """What makes two runs unlike in kind."""
    found = []
    if base.stack_kind != other.stack_kind:
        found.append(
            f"{other.stack} ({other.stack_kind}: {STACK_KINDS[other.stack_kind]}) beside {base.stack} ({base.stack_kind}: "
            f"{STACK_KINDS[base.stack_kind]}): the two results differ in kind, not only in what changed"
        )
    if unlike := _measured_on(base, other):
        words = ", ".join(
            f"{MEASURED_WORDS.get(each.key, each.key)} {_measured_words(each.key, each.to)} beside "
            f"{_measured_words(each.key, each.from_)}"
            for each in unlike
        )
        found.append(f"the two stacks were measured on unlike machines or software: {words}")
    if base.model != other.model or _model(base.scenario) != _model(other.scenario):
        found.append("the models differ: GPU-hours and cost per trillion tokens compare, step times and totals do not")
    else:
        if not math.isclose(_tokens(base), _tokens(other), rel_tol=ROUNDING):
            what = "GPU-hours and cost per trillion tokens compare, totals do not"
            found.append(f"the runs train on other numbers of tokens: {what}")
        if base.step.tokens_per_step != other.step.tokens_per_step:
            found.append("a step has other numbers of tokens: tokens/s/GPU compare, step times do not")
    if base.version != other.version:
        found.append(f"made by versions {base.version} and {other.version}: figures as each of them computed")
    return found


def _measured_on(base: RunResult, other: RunResult) -> tuple[ChangedInput, ...]:
    """What the calibrations of both stacks state, and state otherwise."""
    if base.stack_measured_on is None or other.stack_measured_on is None:
        return ()
    there, here = base.stack_measured_on.model_dump(), other.stack_measured_on.model_dump()
    return tuple(ChangedInput(key=key, from_=there[key], to=here[key]) for key in there if there[key] != here[key])


def _measured_words(key: str, value: JsonValue) -> str:
    """ "700 W", "580.95", "not known"."""
    if value is None:
        return "not known"
    return f"{value:g} W" if key == "power_limit_w" else str(value)


def _model(scenario: Mapping[str, object]) -> object:
    model = scenario.get("model")
    return {key: value for key, value in model.items() if key != "source"} if isinstance(model, Mapping) else model


def _tokens(result: RunResult) -> float:
    return fsum(phase.tokens for phase in result.phases)


def _name(result: RunResult) -> str:
    return str(result.scenario.get("name", ""))


def _run(result: RunResult) -> ComparedRun:
    return ComparedRun(
        scenario=_name(result),
        scenario_sha256=result.scenario_sha256,
        version=result.version,
        stack=result.stack,
        stack_kind=result.stack_kind,
        step_s=result.step.step_s,
    )
