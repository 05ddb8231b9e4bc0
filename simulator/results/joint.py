"""The joint 90 % interval: every source of uncertainty drawn at once, the same draw of a source wherever it acts.

A source (an assumption, a category of kernels or messages, a power constant, a range of runs) is told by its key, its low and
high, and what the quantity does at both. Its value in a draw follows two halves of normal laws that meet at the value: the 5 %
point is low, the 95 % point is high, and nothing lies beyond what is physical. Draws are stratified: each source takes each of
NUM_DRAWS equally likely strata once, in an order that follows from the seed and its key alone. So a source is the same in every
phase and batch, and phases are wrong together as far as they have sources in common.

The ends are those of the draws, less what chance does to so few: the ends of a sum of independent sources are known by
convolution, and the draws say by how much the quantity's ends differ from that sum's in the same draws.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import NDArray

from simulator.results.interval import Interval

Floats = NDArray[np.float64]

NUM_DRAWS: Final = 512
TAIL: Final = 0.05
"""Share of the draws below the low end, and above the high one."""
REACH: Final = NormalDist().inv_cdf(1.0 - TAIL)
"""Standard deviations from the value to either end."""
CELLS: Final = 128
"""Of the grid of a convolution, at least so many to a standard deviation of the sum."""
FINEST, FURTHEST = 1.0 / 512.0, 5.0
"""Step and ends of a normal law's points, in standard deviations."""


@dataclass(frozen=True, slots=True)
class Source:
    """What may be otherwise. at_low, at_high: relative change of the quantity with the source at that end, all else as it is.

    low, value, high: of the input itself, in its unit; of what has none, factors of what is predicted. furthest: how many times
    the range below and above the value is possible at all.
    """

    key: str
    at_low: float
    at_high: float
    low: float
    value: float
    high: float
    furthest: tuple[float, float] = (math.inf, math.inf)

    @property
    def effect(self) -> Interval:
        """The changes in ascending order, with that of the value itself, none."""
        return Interval(low=min(0.0, self.at_low, self.at_high), high=max(0.0, self.at_low, self.at_high))

    def held(self, positions: Floats) -> Floats:
        """Positions (-1 at low, 0 at the value, 1 at high) within what is possible."""
        below, above = self.furthest
        found: Floats = np.minimum(np.maximum(positions, -below), above)
        return found

    def changes(self, positions: Floats) -> Floats:
        """The quantity's relative change where the source lies there: straight from the value to each end, and on beyond it."""
        held = self.held(positions)
        found: Floats = np.where(held < 0.0, -held * self.at_low, held * self.at_high)
        return found


@dataclass(frozen=True, eq=False)
class Joint(Mapping[str, Interval]):
    """A quantity in every draw over what is predicted, (draws,), and what it comes from. seed: of the draws.

    As a mapping: key of a source → relative change of the quantity at the ends of its range, ascending.
    """

    sources: tuple[Source, ...]
    relative: Floats
    seed: int

    def __getitem__(self, key: str) -> Interval:
        return self.by_key[key].effect

    def __iter__(self) -> Iterator[str]:
        return iter(self.by_key)

    def __len__(self) -> int:
        return len(self.by_key)

    @cached_property
    def by_key(self) -> Mapping[str, Source]:
        """Key → source."""
        return {each.key: each for each in self.sources}

    @cached_property
    def alone(self) -> Floats:
        """(draws,) the same if every source changed the quantity as it does alone, and changes added up."""
        return added(self.sources, self.seed)

    @cached_property
    def ends(self) -> tuple[float, float]:
        """5 % and 95 % points, relative to what is predicted, which lies between them."""
        low, high = sum_ends(self.sources)
        found, of_sum = (points(of) for of in (self.relative, self.alone))
        low, high = 1.0 + low + found[0] - of_sum[0], 1.0 + high + found[1] - of_sum[1]
        return min(1.0, max(0.0, low)), max(1.0, high)

    def interval(self, value: float) -> Interval:
        """90 % interval of a quantity that is predicted to be `value` (> 0)."""
        return Interval(low=value * self.ends[0], high=value * self.ends[1])

    @cached_property
    def first_order(self) -> Mapping[str, float]:
        """Key → share of the quantity's variance that goes if the source were known: Sobol's first order, in closed form for a
        source whose own changes are straight on both sides, over the variance of the draws (corrected as their ends are).
        """
        own = {each.key: variance(each) for each in self.sources}
        found, of_sum = (float(np.var(of)) for of in (self.relative, self.alone))
        total = max(0.0, math.fsum((*own.values(), found, -of_sum)))
        return {key: each / total if total else 0.0 for key, each in own.items()}


def positions(seed: int, key: str) -> Floats:
    """(draws,) where a source lies: -1 at its low, 1 at its high. Of the seed and the key alone."""
    digest = hashlib.sha256(f"{seed}:{key}".encode()).digest()[:16]
    bits = np.random.Philox(key=np.frombuffer(digest, dtype="<u8").astype(np.uint64))
    return _strata()[np.argsort(bits.random_raw(NUM_DRAWS), kind="stable")]


@cache
def _strata() -> Floats:
    """Middles of equally likely strata of a normal law whose 95 % point is 1, ascending."""
    law = NormalDist()
    found = np.array([law.inv_cdf((index + 0.5) / NUM_DRAWS) / REACH for index in range(NUM_DRAWS)])
    found.setflags(write=False)
    return found


def added(sources: Iterable[Source], seed: int) -> Floats:
    """(draws,) 1 and every source's own change."""
    total = np.ones(NUM_DRAWS)
    for each in sources:
        if each.at_low or each.at_high:
            total += each.changes(positions(seed, each.key))
    return total


def points(values: Floats) -> tuple[float, float]:
    """5 % and 95 % points of equally likely values, each the middle of its stratum."""
    ordered = np.sort(values)
    at = TAIL * len(ordered) - 0.5
    below = int(at)
    low, high = (float(of[below] + (at - below) * (of[below + 1] - of[below])) for of in (ordered, ordered[::-1]))
    return low, high


def sum_ends(sources: Iterable[Source]) -> tuple[float, float]:
    """5 % and 95 % points of the sum of independent sources' own changes: their laws on a grid, one after the other."""
    found = [each for each in sources if each.at_low or each.at_high]
    if not found:
        return 0.0, 0.0
    spread = math.sqrt(math.fsum(variance(each) for each in found))
    if not spread:
        return 0.0, 0.0
    # A power of two, so that a source that is little wider is laid on the same grid.
    cell = 2.0 ** math.floor(math.log2(spread / CELLS))
    law, first = np.ones(1), 0
    for each in found:
        own, start = _on_grid(each, cell)
        law, first = _convolved(law, own), first + start
    low, high = (_point(law, share) for share in (TAIL, 1.0 - TAIL))
    low, high = (cell * (first + each) for each in (low, high))
    never_below = all(min(each.at_low, each.at_high) >= 0.0 for each in found)
    never_above = all(max(each.at_low, each.at_high) <= 0.0 for each in found)
    return (max(0.0, low) if never_below else low), (min(0.0, high) if never_above else high)


@cache
def _normal_points() -> tuple[Floats, Floats]:
    """Points of a law whose 95 % point is 1, and their weights, which sum to 1."""
    law, half = NormalDist(), FINEST / 2.0
    at = [FINEST * index for index in range(round(-FURTHEST / FINEST), round(FURTHEST / FINEST) + 1)]
    weights = np.array([law.cdf(each + half) - law.cdf(each - half) for each in at])
    return np.array(at) / REACH, weights / math.fsum(weights.tolist())


def _on_grid(source: Source, cell: float) -> tuple[Floats, int]:
    """Weights of a source's changes on the grid, each shared by the two cells around it, and the first cell."""
    at, weights = _normal_points()
    cells = source.changes(at) / cell
    below = np.floor(cells).astype(np.int64)
    first = int(below.min())
    above = cells - below
    size = int(below.max()) - first + 2
    own = np.bincount(below - first, weights * (1.0 - above), size) + np.bincount(
        below + 1 - first, weights * above, size
    )
    return own.astype(np.float64), first


def _convolved(law: Floats, own: Floats) -> Floats:
    """The law of the sum. By shifted sums and no linear algebra, so that every processor gives the same bits."""
    short, long = sorted((law, own), key=len)
    total = np.zeros(len(law) + len(own) - 1)
    for shift, weight in enumerate(short.tolist()):
        if weight:
            total[shift : shift + len(long)] += weight * long
    return total


def _point(law: Floats, share: float) -> float:
    """Where so much of a law lies below, in cells from its first; a cell's weight lies evenly on it."""
    below = np.cumsum(law)
    index = int(np.searchsorted(below, share * below[-1]))
    before = float(below[index - 1]) if index else 0.0
    return index - 0.5 + (share * float(below[-1]) - before) / float(law[index])


def variance(source: Source) -> float:
    """Of a source's own change, by the points of its law."""
    at, weights = _normal_points()
    changes = source.changes(at)
    mean = math.fsum((weights * changes).tolist())
    return max(0.0, math.fsum((weights * (changes - mean) * (changes - mean)).tolist()))


def together(parts: Sequence[tuple[float, Joint]]) -> Joint:
    """A sum of quantities, (what each is predicted to be, its draws); sources of one key are one source."""
    if all(joint is parts[0][1] for _, joint in parts):
        return parts[0][1]
    total = math.fsum(value for value, _ in parts)
    shares = [(value / total, joint) for value, joint in parts]
    keys = list(dict.fromkeys(each.key for _, joint in parts for each in joint.sources))
    known = [(share, {each.key: each for each in joint.sources}) for share, joint in shares]
    sources = []
    for key in keys:
        of = [(share, by_key[key]) for share, by_key in known if key in by_key]
        at_low, at_high = (math.fsum(share * getattr(each, end) for share, each in of) for end in ("at_low", "at_high"))
        sources.append(replace(of[0][1], at_low=at_low, at_high=at_high))
    relative = np.zeros(NUM_DRAWS)
    for share, joint in shares:
        relative += share * joint.relative
    return Joint(tuple(sources), relative, parts[0][1].seed)
