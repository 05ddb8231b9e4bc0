"""Joint draws of a run: the hours of phases and totals in every draw, phases wrong together where they share a source."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from hwprofiles.stack_records import Assumption
from simulator.results.interval import Estimate
from simulator.results.joint import Joint, Source, together
from simulator.run.kinds.kind_model import drawn_values

Hours = Callable[[Mapping[str, float], float], float]
"""GPU-hours of a phase at values of its own assumptions and at a step that takes so many times its seconds."""


def phase_joint(step: Joint, assumptions: Mapping[str, Assumption], hours: Hours) -> Joint:
    """A phase's hours, which follow from those of its steps and from assumptions of its own."""
    stated = {key: each.value for key, each in assumptions.items()}
    whole = hours(stated, 1.0)
    own = []
    for key, each in assumptions.items():
        at_low, at_high = (hours({**stated, key: end}, 1.0) / whole - 1.0 for end in (each.low, each.high))
        own.append(Source(key, at_low, at_high, each.low, each.value, each.high, (1.0, 1.0)))
    of_step = [
        replace(
            each,
            at_low=hours(stated, 1.0 + each.at_low) / whole - 1.0,
            at_high=hours(stated, 1.0 + each.at_high) / whole - 1.0,
        )
        for each in step.sources
    ]
    drawn = {key: drawn_values(step.seed, each) for key, each in assumptions.items()}
    relative = [
        hours({key: values[draw] for key, values in drawn.items()}, factor) / whole
        for draw, factor in enumerate(step.relative.tolist())
    ]
    return Joint((*of_step, *own), np.array(relative), step.seed)


def total(parts: Sequence[Estimate], joints: Iterable[Joint | None]) -> Estimate:
    """A sum over phases. Without draws of some phase the ends add, as if all were wrong together."""
    known = [each for each in joints if each is not None]
    if len(known) < len(parts):
        return sum(parts[1:], start=parts[0])
    value = math.fsum(each.value for each in parts)
    interval = together([(each.value, joint) for each, joint in zip(parts, known, strict=True)]).interval(value)
    return Estimate(value=value, low=interval.low, high=interval.high)
