"""The hours of a phase as a function of what it rests on, with ranges by joint draws over all of it."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import fsum
from types import MappingProxyType
from typing import Final

from hwprofiles.assumption_units import ASSUMPTION_UNITS
from hwprofiles.stack_records import Assumption
from simulator.draws import generator
from simulator.results.interval import Estimate, Interval
from simulator.results.phase_parts import PhasePart

Values = Mapping[str, float]
"""Key of an assumption → its value."""
Lines = Mapping[str, float]
"""Name of a line → its GPU-hours."""

STEP: Final = "step"
"""What stands for the interval of the phase's step among what decides a line."""
NUM_DRAWS: Final = 500
PURPOSE: Final = 72
"""Of the normal numbers of a key (simulator/draws.py)."""
END: Final = 1.6448536269514722
"""Standard deviations between the median and the 95 % point of a normal law."""


@dataclass(frozen=True)
class KindModel:
    """Hours of one phase of a kind.

    assumptions: all that it rests on beside its step, each with its range; exact ones have none. lines(values, step_s): line →
    GPU-hours where the assumptions have these values and a step of the phase takes so many seconds. is_whole: the lines are all
    of the phase; else they come on top of its steps. steps, tokens: optimizer updates of the phase, and tokens that it trains
    on (padding left out), at the stated values. notes, facts: of a line, as in PhasePart.
    """

    assumptions: Mapping[str, Assumption]
    lines: Callable[[Values, float], Lines]
    is_whole: bool
    steps: float
    tokens: float
    notes: Mapping[str, str]
    facts: Callable[[float], Mapping[str, Mapping[str, float]]] = lambda step_s: MappingProxyType({})
    seed: int = 0
    known: dict[tuple[float, float, float], list[dict[str, float]]] = field(
        default_factory=dict, repr=False, compare=False
    )
    """(step, its low, its high) → lines of every draw."""

    @property
    def values(self) -> Values:
        """The stated values."""
        return {key: each.value for key, each in self.assumptions.items()}

    def parts(self, step: Estimate) -> tuple[PhasePart, ...]:
        """The lines, each with its 90 % range. step: seconds of a step of the phase."""
        draws, facts = self._draws(step), self.facts(step.value)
        moved = self._one_by_one(step)
        parts = []
        for name, hours in self.lines(self.values, step.value).items():
            key, decided = _decides(hours, name, moved)
            found, drawn = dict(facts.get(name, {})), _estimate(hours, [draw[name] for draw in draws])
            parts.append(
                PhasePart(name=name, gpu_hours=drawn, decides=key, decided=decided, note=self.notes[name], facts=found)
            )
        return tuple(parts)

    def total(self, step: Estimate) -> Estimate:
        """GPU-hours of all lines, drawn together."""
        sums = [fsum(draw.values()) for draw in self._draws(step)]
        return _estimate(fsum(self.lines(self.values, step.value).values()), sums)

    def effect(self, key: str, step: Estimate) -> Interval:
        """Change of the phase's GPU-hours when an assumption alone goes to its ends: low at most 0, high at least 0."""
        each, stated = self.assumptions[key], self.values
        hours = fsum(self.lines(stated, step.value).values())
        ends = [fsum(self.lines({**stated, key: end}, step.value).values()) - hours for end in (each.low, each.high)]
        return Interval(low=min(0.0, *ends), high=max(0.0, *ends))

    def _draws(self, step: Estimate) -> list[dict[str, float]]:
        key = (step.value, step.low, step.high)
        if key not in self.known:
            drawn = {name: drawn_values(self.seed, name, each) for name, each in self.assumptions.items()}
            steps = [split_normal(step.value, step.low, step.high, z) for z in normals(self.seed, STEP)]
            self.known[key] = [
                dict(self.lines({name: values[idx] for name, values in drawn.items()}, step_s))
                for idx, step_s in enumerate(steps)
            ]
        return self.known[key]

    def _one_by_one(self, step: Estimate) -> Mapping[str, tuple[Lines, Lines]]:
        """Key → lines with it alone at its low and at its high end."""
        stated = self.values
        ends = {
            key: tuple(self.lines({**stated, key: end}, step.value) for end in (each.low, each.high))
            for key, each in self.assumptions.items()
            if each.low < each.high
        }
        if step.low < step.high:
            ends[STEP] = (self.lines(stated, step.low), self.lines(stated, step.high))
        return {key: (low, high) for key, (low, high) in ends.items()}


def normals(seed: int, key: str) -> list[float]:
    """Standard normal numbers that a key has in every phase and batch of a seed."""
    found: list[float] = generator(seed, zlib.crc32(key.encode()), PURPOSE).standard_normal(NUM_DRAWS).tolist()
    return found


def drawn_values(seed: int, key: str, assumption: Assumption) -> list[float]:
    """An assumption's value in every draw, held inside what its unit allows."""
    bounds = ASSUMPTION_UNITS[assumption.unit]
    drawn = (split_normal(assumption.value, assumption.low, assumption.high, z) for z in normals(seed, key))
    return [min(bounds.high, max(bounds.low, value)) for value in drawn]


def split_normal(value: float, low: float, high: float, z: float) -> float:
    """A number whose median is `value` and whose 5 % and 95 % points are low and high, at a normal number z."""
    return value + (z / END) * (high - value if z > 0.0 else value - low)


def _estimate(value: float, draws: list[float]) -> Estimate:
    ordered = sorted(draws)
    tail = len(ordered) // 20
    return Estimate(value=value, low=min(value, ordered[tail]), high=max(value, ordered[-1 - tail]))


def _decides(
    hours: float, name: str, moved: Mapping[str, tuple[Lines, Lines]]
) -> tuple[str, Interval] | tuple[None, None]:
    """What alone moves a line furthest, and its hours then."""
    spans = {key: sorted((low[name], hours, high[name])) for key, (low, high) in moved.items()}
    key = max(spans, key=lambda each: spans[each][-1] - spans[each][0], default=None)
    if key is None or spans[key][-1] == spans[key][0]:
        return None, None
    return key, Interval(low=spans[key][0], high=spans[key][-1])
