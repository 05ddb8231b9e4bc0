"""Whether a result document agrees with itself: the parts sum to the wholes, and what follows from other keys does."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator

from hwprofiles.units import SECONDS_PER_HOUR
from simulator.results.document import to_document
from simulator.results.run_result import PhaseResult, RunResult
from simulator.results.step_result import PART_NAMES, SUM_TOLERANCE, parts_of

_USD_ROUNDING = 1e-6
"""USD: amounts are kept to the micro-USD."""

_OF_DRAWS = 0.02
"""Of the half-width: by how much a sum of phases may lie beyond the sum of their ends, which are of so many draws alone."""

FieldProblem = tuple[str, str]
"""(dotted field, message)."""


def consistency_problems(result: RunResult) -> Iterator[FieldProblem]:
    """What in a document contradicts the rest of it.

    The models' own rules hold before: finite, ordered, a rank's parts sum to the step. The scenario names its GPUs.
    """
    if scenario_digest(result.scenario) != result.scenario_sha256:
        yield "scenario_sha256", "is not the hash of `scenario`, which was edited after the run"
    yield from _step_problems(result)
    yield from _memory_problems(result)
    for idx, phase in enumerate(result.phases):
        yield from _phase_problems(f"phases.{idx}", phase)
    yield from _total_problems(result)


def scenario_digest(scenario: object) -> str:
    """Hash of a scenario's JSON values, as `Scenario.scenario_sha256` takes it."""
    text = json.dumps(to_document(scenario), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _step_problems(result: RunResult) -> Iterator[FieldProblem]:
    step = result.step
    first = result.phases[0]
    if not _same(step.step_s, first.step_s):
        yield "phases.0.step_s", f"{first.step_s:g} s, but step.step_s is {step.step_s:g} s"
    if [rank.pp_rank for rank in step.by_rank] != list(range(len(step.by_rank))):
        yield "step.by_rank", "pipeline ranks are not 0, 1, 2 …"
        return
    expected = parts_of(step.by_rank)
    for name in ("edge", "mean", "middle"):
        stated, right = getattr(step.parts, name), getattr(expected, name)
        if any(not _same(getattr(stated, key), getattr(right, key), step.step_s) for key in PART_NAMES):
            yield f"step.parts.{name}", "is not what step.by_rank gives"
    for idx, row in enumerate(step.by_category):
        if not math.isclose(row.seconds, row.share * step.step_s, rel_tol=SUM_TOLERANCE, abs_tol=1e-12):
            yield f"step.by_category.{idx}.share", f"{row.share:g} of {step.step_s:g} s is not {row.seconds:g} s"


def _memory_problems(result: RunResult) -> Iterator[FieldProblem]:
    memory = result.memory
    worst = max(stage.peak_bytes for stage in memory.by_stage)
    if memory.peak_bytes_per_gpu != worst:
        yield "memory.peak_bytes_per_gpu", f"{memory.peak_bytes_per_gpu:,}, but the worst stage has {worst:,} bytes"
    if memory.fits != (memory.peak_bytes_per_gpu <= memory.usable_bytes):
        yield "memory.fits", "is not whether peak_bytes_per_gpu is within usable_bytes"


def _phase_problems(field: str, phase: PhaseResult) -> Iterator[FieldProblem]:
    ramp = phase.ramp
    if phase.parts is not None:
        hours = math.fsum(part.gpu_hours.value for part in phase.parts)
        if not _same(phase.gpu_hours, hours):
            yield f"{field}.gpu_hours", f"{phase.gpu_hours:g}, but its parts have {hours:g}"
        return
    if ramp is None:
        if not _same(phase.wall_s, phase.steps * phase.step_s):
            yield f"{field}.wall_s", f"{phase.wall_s:g} s, but {phase.steps:g} steps of {phase.step_s:g} s"
        return
    for key in ("tokens", "steps", "wall_s"):
        part, whole = getattr(ramp, key), getattr(phase, key)
        if part > whole * (1 + SUM_TOLERANCE):
            yield f"{field}.ramp.{key}", f"{part:g} of the ramp, but {whole:g} of the whole phase"
    if not _same(phase.wall_s, ramp.wall_s + (phase.steps - ramp.steps) * phase.step_s, phase.wall_s):
        yield f"{field}.wall_s", "is not the ramp's seconds and those of the steps at full batch"


def _total_problems(result: RunResult) -> Iterator[FieldProblem]:
    totals, phases = result.totals, result.phases
    for key in ("wall_s", "gpu_hours"):
        parts = math.fsum(getattr(phase, key) for phase in phases)
        if not _same(getattr(totals, key).value, parts):
            yield f"totals.{key}", f"{getattr(totals, key).value:g}, but the phases sum to {parts:g}"
    for idx, phase in enumerate(phases):
        gpus = phase.num_gpus or result.scenario["cluster"]["num_gpus"]
        if not _same(phase.gpu_hours * SECONDS_PER_HOUR, gpus * phase.wall_s):
            yield f"phases.{idx}.gpu_hours", f"{phase.gpu_hours:g}, but {phase.wall_s:g} s of {gpus} GPUs"
    walls = [phase.wall_interval for phase in phases]
    for end in ("low", "high"):
        # Phases are wrong together at most as far as their ends add.
        parts, told = math.fsum(getattr(wall, end) for wall in walls if wall is not None), getattr(totals.wall_s, end)
        further = (parts - told) if end == "low" else (told - parts)
        if None not in walls and further > _OF_DRAWS * abs(parts - totals.wall_s.value) + SUM_TOLERANCE * parts:
            yield f"totals.wall_s.{end}", f"{told:g}, but the phases sum to {parts:g}"
    yield from _money_problems(result)


def _money_problems(result: RunResult) -> Iterator[FieldProblem]:
    cost, price = result.totals.cost_usd, result.price
    if cost is None:
        if any(phase.cost_usd is not None for phase in result.phases):
            yield "totals.cost_usd", "is missing, but a phase has a cost"
        return
    if any(phase.cost_usd is None for phase in result.phases):
        yield "phases", "a phase has no cost, but the totals have"
        return
    parts = math.fsum(phase.cost_usd or 0.0 for phase in result.phases)
    if not math.isclose(cost.value, parts, rel_tol=SUM_TOLERANCE, abs_tol=_USD_ROUNDING * len(result.phases)):
        yield "totals.cost_usd", f"{cost.value:g} USD, but the phases sum to {parts:g} USD"
    if price is None or any("prices" in (phase.keys or {}) for phase in result.phases):
        return
    for key, each in (("value", price.usd_per_gpu_hour), ("low", price.low), ("high", price.high)):
        stated, hours = getattr(cost, key), getattr(result.totals.gpu_hours, key)
        if not math.isclose(stated, hours * each, rel_tol=SUM_TOLERANCE, abs_tol=_USD_ROUNDING):
            yield f"totals.cost_usd.{key}", f"{stated:g} USD, but {hours:g} GPU-hours at {each:g} USD"


def _same(one: float, other: float, scale: float | None = None) -> bool:
    """Equal up to the rounding of sums; scale: of what the numbers are parts, same unit."""
    size = max(abs(one), abs(other)) if scale is None else max(abs(one), abs(other), abs(scale))
    return abs(one - other) <= SUM_TOLERANCE * size
