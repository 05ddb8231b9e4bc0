"""The hours of a phase as a function of what it rests on, with ranges by joint draws over all of it (results/joint.py)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import fsum
from types import MappingProxyType

import numpy as np

from hwprofiles.stack_records import Assumption
from simulator.results.interval import Estimate, Interval
from simulator.results.joint import Floats, points, positions
from simulator.results.phase_parts import STEP, PhasePart

Values = Mapping[str, float]
"""Key of an assumption → its value."""
Lines = Mapping[str, float]
"""Name of a line → its GPU-hours."""

Drawn = Sequence[float] | None


@dataclass(frozen=True)
class KindModel:
    """Hours of one phase of a kind.

    assumptions: all that it rests on beside its step, each with its range; exact ones have none. lines(values, step_s): line →
    GPU-hours where the assumptions have these values and a step of the phase takes so many seconds. is_whole: the lines are all
    of the phase; else they come on top of its steps. steps, tokens: optimizer updates of the phase, and tokens that it trains
    on (padding left out), at the stated values. notes, facts: of a line, as in PhasePart. not_modelled: as of a result.
    """

    assumptions: Mapping[str, Assumption]
    lines: Callable[[Values, float], Lines]
    is_whole: bool
    steps: float
    tokens: float
    notes: Mapping[str, str]
    facts: Callable[[float], Mapping[str, Mapping[str, float]]] = lambda step_s: MappingProxyType({})
    seed: int = 0
    not_modelled: tuple[str, ...] = ()
    known: dict[tuple[float, ...], list[dict[str, float]]] = field(default_factory=dict, repr=False, compare=False)
    """Seconds of the step in every draw → lines of every draw."""

    @property
    def values(self) -> Values:
        """The stated values."""
        return {key: each.value for key, each in self.assumptions.items()}

    def parts(self, step: Estimate, drawn: Drawn = None) -> tuple[PhasePart, ...]:
        """The lines, each with its 90 % range. step: seconds of a step of the phase; drawn: over their value, in every draw;
        None: a step that lies between its ends by a source of its own.
        """
        draws, facts = self._draws(step, drawn), self.facts(step.value)
        moved = self._one_by_one(step)
        parts = []
        for name, hours in self.lines(self.values, step.value).items():
            key, decided = _decides(hours, name, moved)
            found, ends = dict(facts.get(name, {})), _estimate(hours, [draw[name] for draw in draws])
            parts.append(
                PhasePart(name=name, gpu_hours=ends, decides=key, decided=decided, note=self.notes[name], facts=found)
            )
        return tuple(parts)

    def total(self, step: Estimate, drawn: Drawn = None) -> Estimate:
        """GPU-hours of all lines, drawn together; step, drawn: as of `parts`."""
        sums = [fsum(draw.values()) for draw in self._draws(step, drawn)]
        return _estimate(fsum(self.lines(self.values, step.value).values()), sums)

    def effect(self, key: str, step: Estimate) -> Interval:
        """Change of the phase's GPU-hours when an assumption alone goes to its ends: low at most 0, high at least 0."""
        each, stated = self.assumptions[key], self.values
        hours = fsum(self.lines(stated, step.value).values())
        ends = [fsum(self.lines({**stated, key: end}, step.value).values()) - hours for end in (each.low, each.high)]
        return Interval(low=min(0.0, *ends), high=max(0.0, *ends))

    def _draws(self, step: Estimate, drawn: Drawn) -> list[dict[str, float]]:
        if drawn is None:
            steps = _between(step, positions(self.seed, STEP))
        else:
            steps = [step.value * each for each in drawn]
        key = tuple(steps)
        if key not in self.known:
            values = {name: drawn_values(self.seed, each) for name, each in self.assumptions.items()}
            self.known[key] = [
                dict(self.lines({name: of[idx] for name, of in values.items()}, step_s))
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


def drawn_values(seed: int, assumption: Assumption) -> list[float]:
    """An assumption's value in every draw, held to its range."""
    return _between(
        Estimate(value=assumption.value, low=assumption.low, high=assumption.high), positions(seed, assumption.key)
    )


def _between(stated: Estimate, at: Floats) -> list[float]:
    """A number in every draw. at: -1 at its low, 0 at its value, 1 at its high; beyond them it stays there."""
    held = (min(1.0, max(-1.0, place)) for place in at.tolist())
    return [
        stated.value + place * (stated.high - stated.value if place > 0.0 else stated.value - stated.low)
        for place in held
    ]


def _estimate(value: float, draws: list[float]) -> Estimate:
    low, high = points(np.array(draws))
    return Estimate(value=value, low=min(value, low), high=max(value, high))


def _decides(
    hours: float, name: str, moved: Mapping[str, tuple[Lines, Lines]]
) -> tuple[str, Interval] | tuple[None, None]:
    """What alone moves a line furthest, and its hours then."""
    spans = {key: sorted((low[name], hours, high[name])) for key, (low, high) in moved.items()}
    key = max(spans, key=lambda each: spans[each][-1] - spans[each][0], default=None)
    if key is None or spans[key][-1] == spans[key][0]:
        return None, None
    return key, Interval(low=spans[key][0], high=spans[key][-1])
