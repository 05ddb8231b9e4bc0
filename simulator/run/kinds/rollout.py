"""How long it takes to generate a rollout's answers: a fluid of sequences that end one after another.

All engines hold equally many sequences. As many as memory (or max_batch_per_gpu) allows run at a time; what is more follows as
places become free, at a full batch. The last full batch then drains: a share S(t) of it is still alive at token t, and the step
of t has b S(t) sequences of prompt + t tokens, until the longest of all answers ends:
    drain = integral of step(b S(t), prompt + t) / tokens a step, t from 0 to the longest
Lengths are log-normal and end at the longest that is allowed.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import exp, fsum, log, log1p, sqrt
from statistics import NormalDist
from typing import Final, Protocol

from simulator.run.kinds.kind_model import Values
from simulator.run.kinds.packing import cut_moment

PLACES: Final = (0.2, 0.4, 0.6, 0.75, 0.875, 0.95, 0.98, 0.995)
"""Shares of the answers at whose lengths the drain is cut; the last piece ends with the longest of all."""
_Z: Final = tuple(NormalDist().inv_cdf(place) for place in PLACES)
MIDDLE: Final = 0.5


class Engine(Protocol):
    """What generating asks of an engine (decode.Decode)."""

    def tokens_per_step(self, values: Values) -> float: ...
    def most_sequences(self, values: Values, context: float) -> float: ...
    def step_s(self, values: Values, batch: float, context: float) -> float: ...


@dataclass(frozen=True, slots=True)
class Answers:
    """Answers of one rollout. number: on a GPU; number_of_all: on all of them; mean: tokens before they are cut at `longest`;
    cv: their spread; prompt: tokens of a prompt.
    """

    number: float
    number_of_all: float
    mean: float
    cv: float
    longest: float
    prompt: float

    @property
    def sigma(self) -> float:
        """Standard deviation of the lengths' logarithm."""
        return sqrt(log1p(self.cv**2))

    def length(self, z: float) -> float:
        """Tokens of the answer that lies so many standard deviations (of the logarithm) above the median."""
        return min(self.longest, exp(log(self.mean) - self.sigma**2 / 2 + self.sigma * z))

    def kept(self, order: int) -> float:
        """Mean of length^order, answers cut at the longest."""
        return cut_moment(order, self.mean, self.cv, self.longest)

    def kept_until(self, tokens: float) -> float:
        """Mean tokens of an answer up to so many."""
        return cut_moment(1, self.mean, self.cv, min(tokens, self.longest)) if tokens > 0.0 else 0.0

    @property
    def tokens(self) -> float:
        """Mean tokens of an answer as it is cut."""
        return self.kept(1)

    @property
    def context(self) -> float:
        """Cached tokens of a sequence on the mean of its steps, where places are taken again at once."""
        return self.prompt + self.kept(2) / (2.0 * self.tokens)


def most_at_once(engine: Engine, values: Values, answers: Answers, limit: float | None) -> float:
    """Sequences that a GPU holds at a time, at their mean length where places are taken again at once; below 1: part of one."""
    held = engine.most_sequences(values, answers.context)
    return held if limit is None else min(held, limit)


def generating_s(engine: Engine, values: Values, answers: Answers, limit: float | None = None) -> float:
    """Seconds from the first token to the last of the longest answer. limit: sequences that a GPU may hold at a time."""
    batch = min(answers.number, most_at_once(engine, values, answers, limit))
    a_step = engine.tokens_per_step(values)
    waiting = (answers.number - batch) * answers.tokens / (batch * a_step)
    full = waiting * engine.step_s(values, batch, answers.context) if waiting > 0.0 else 0.0
    return full + _drain_s(engine, values, answers, batch) / a_step


def _drain_s(engine: Engine, values: Values, answers: Answers, batch: float) -> float:
    """Seconds of the last batch's steps if each yielded one token. Between two lengths as many are alive as have tokens there
    on the mean: the mean of min(length, end) grows by the integral of S(t).
    """
    last = NormalDist().inv_cdf(1.0 - MIDDLE / max(1.0, answers.number_of_all))
    ends = [0.0, *(answers.length(z) for z in _Z if z < last), answers.length(last)]
    pieces = []
    for begin, end in pairwise(ends):
        if end > begin:
            alive = (answers.kept_until(end) - answers.kept_until(begin)) / (end - begin)
            context = answers.prompt + (begin + end) / 2.0
            pieces.append((end - begin) * engine.step_s(values, batch * alive, context))
    return fsum(pieces)
