"""Instances of different lengths packed into sequences of one: how many sequences, how much of them is padding.

Lengths are log-normal; what lies beyond a sequence's end is dropped, but for stream. best_fit and in_order are run on one
instance of each of 4,096 equally likely lengths; stream, none, and equal lengths have closed forms: equal ones fill
floor(seq / length) places of a sequence.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import erfc, exp, fsum, log, log1p, sqrt
from statistics import NormalDist
from types import MappingProxyType
from typing import Final

from simulator.draws import generator
from simulator.scenario.phase_kinds import PackingRule

NUM_LENGTHS: Final = 4_096
"""Instances that a rule is run on: a sequence of 32 instances then ends in the same place to a percent."""
ORDER: Final = 71
"""Purpose of the random order in which in_order meets them (simulator/draws.py)."""


@dataclass(frozen=True, slots=True)
class Packed:
    """What a rule makes of instances of mean_tokens and given_cv. tokens, cv: mean tokens of an instance that are kept, and
    their spread; cut_frac: share of all tokens that lie beyond a sequence's end and are dropped; sequences: sequences of an
    instance, on the mean.
    """

    mean_tokens: float
    given_cv: float
    seq_len: int
    tokens: float
    cv: float
    cut_frac: float
    sequences: float

    @property
    def padding_frac(self) -> float:
        """Share of the sequences' tokens that are padding."""
        return max(0.0, 1.0 - self.tokens / (self.sequences * self.seq_len))


@lru_cache(maxsize=256)
def pack(mean_tokens: float, cv: float, seq_len: int, rule: PackingRule) -> Packed:
    """Instances of these lengths (mean, spread) in sequences of `seq_len` tokens."""
    drawn = lengths(mean_tokens, cv)
    kept = drawn if rule == "stream" else [min(seq_len, length) for length in drawn]
    tokens = fsum(kept) / len(kept)
    spread = sqrt(fsum((length - tokens) ** 2 for length in kept) / len(kept)) / tokens
    sequences = RULES[rule](kept, seq_len) / len(kept)
    return Packed(mean_tokens, cv, seq_len, tokens, spread, 1.0 - fsum(kept) / fsum(drawn), sequences)


def lengths(mean_tokens: float, cv: float) -> list[int]:
    """Whole tokens of one instance of each equally likely length, ascending, at least one token."""
    sigma = sqrt(log1p(cv**2))
    centre, normal = log(mean_tokens) - sigma**2 / 2, NormalDist()
    places = ((index + 0.5) / NUM_LENGTHS for index in range(NUM_LENGTHS))
    return [max(1, round(exp(centre + sigma * normal.inv_cdf(place)))) for place in places]


def kept_tokens(mean_tokens: float, cv: float, longest: float) -> float:
    """Mean tokens of log-normal instances that are cut at the longest; with cv 0 all are equal."""
    return cut_moment(1, mean_tokens, cv, longest)


def cut_moment(order: int, mean_tokens: float, cv: float, longest: float) -> float:
    """Mean of length^order of log-normal lengths that are cut at the longest."""
    sigma = sqrt(log1p(cv**2))
    if sigma == 0.0:
        return min(mean_tokens, longest) ** order
    centre = log(mean_tokens) - sigma**2 / 2
    at = (log(longest) - centre) / sigma
    below = 0.5 * erfc((order * sigma - at) / sqrt(2.0)) * exp(order * centre + (order * sigma) ** 2 / 2)
    return below + longest**order * 0.5 * erfc(at / sqrt(2.0))


def best_fit(kept: Sequence[int], seq_len: int) -> float:
    """Sequences that hold all instances, the longest placed first, each in the fullest sequence that has room (best fit
    decreasing: Johnson, Near-optimal bin packing algorithms, 1973).
    """
    rooms: list[int] = []
    for length in sorted(kept, reverse=True):
        place = bisect_left(rooms, length)
        room = rooms.pop(place) if place < len(rooms) else seq_len
        insort(rooms, room - length)
    return float(len(rooms))


def in_order(kept: Sequence[int], seq_len: int) -> float:
    """Sequences where each instance goes into the last one, or begins another, in a random order (next fit)."""
    number, room = 0, 0
    for index in generator(0, 0, ORDER).permutation(len(kept)).tolist():
        if kept[index] > room:
            number, room = number + 1, seq_len
        room -= kept[index]
    return float(number)


def stream(kept: Sequence[int], seq_len: int) -> float:
    """Sequences without padding: an instance that does not fit goes on in the next."""
    return fsum(kept) / seq_len


def apart(kept: Sequence[int], seq_len: int) -> float:
    """A sequence an instance."""
    return float(len(kept))


RULES: Final[Mapping[PackingRule, Callable[[Sequence[int], int], float]]] = MappingProxyType(
    {"best_fit": best_fit, "in_order": in_order, "stream": stream, "none": apart}
)
"""Rule → sequences that hold all instances (none longer than a sequence)."""
