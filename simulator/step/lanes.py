"""A step's graph under many class tables at once: what moves the seconds of its classes, swept as lanes of the compiled engine.

Tables are those of the graph whose classes are told apart by rank (`StepPower.apart`), at the speeds that the power limit
leaves; what messages add to one another where they share links stays as it is in the step.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from simulator.engine.dag import StepDag
from simulator.engine.sweep import sweep_tables
from simulator.results.joint import NUM_DRAWS, Joint, Source, positions
from simulator.step.power import StepPower

Floats = NDArray[np.float64]

TABLES_AT_ONCE = 64
"""Lanes of a pass over class tables: what they hold at a time fits the cache."""


@dataclass(frozen=True, eq=False)
class Moved:
    """A source's ends: `Source` before its effects are known. at_low, at_high: (classes,) seconds of `StepPower.apart` with the
    source at that end, or, where it acts otherwise, the relative change of the step; None: that of the step as it is.
    """

    key: str
    at_low: Floats | float | None
    at_high: Floats | float | None
    low: float
    value: float
    high: float
    furthest: tuple[float, float] = (math.inf, math.inf)

    @property
    def ends(self) -> tuple[Floats | float | None, Floats | float | None]:
        """at_low and at_high."""
        return self.at_low, self.at_high


@dataclass(frozen=True, eq=False)
class Lanes:
    """The step's operators with a class for each class of `apart` and each second that sharing links adds. row, added_s
    (classes,): of each the class of `apart`, and the seconds. seconds: (classes of apart,) of the step as it is.
    """

    dag: StepDag
    row: NDArray[np.int64]
    added_s: Floats
    seconds: Floats

    def makespans(self, tables: Floats) -> Floats:
        """(lanes,) seconds of the step under tables of `apart`, (classes of apart, lanes)."""
        return sweep_tables(self.dag, tables[self.row] + self.added_s[:, None])


def lanes_of(power: StepPower) -> Lanes:
    """The lanes of a solved step."""
    apart, sharing = power.apart, power.sharing
    seconds = apart.seconds(power.speeds, power.own)
    dag = apart.graph.dag
    if sharing is None or not len(sharing.added_s):
        return Lanes(dag, np.arange(dag.num_classes, dtype=np.int64), np.zeros(dag.num_classes), seconds)
    shared = power.graph.dag
    unshared = shared.num_classes - len(sharing.added_s)
    key = np.maximum(shared.op_class.astype(np.int64) - unshared + 1, 0) * dag.num_classes + dag.op_class
    pairs, op_class = np.unique(key.astype(np.int64), return_inverse=True)
    added_s = np.concatenate((np.zeros(1), sharing.added_s))[pairs // dag.num_classes]
    of_pairs = replace(dag, op_class=op_class.reshape(-1).astype(np.int32), num_classes=len(pairs))
    return Lanes(of_pairs, pairs % dag.num_classes, added_s, seconds)


def sources_of(lanes: Lanes, moved: Sequence[Moved]) -> tuple[Source, ...]:
    """The sources with what the step does at each of their ends."""
    tables = {
        (i, end): of for i, each in enumerate(moved) for end, of in enumerate(each.ends) if isinstance(of, np.ndarray)
    }
    swept = dict(zip(tables, _makespans(lanes, [*tables.values()]), strict=True))

    def change(i: int, end: int) -> float:
        own = moved[i].ends[end]
        return swept[i, end] if (i, end) in swept else float(own) if isinstance(own, float) else 0.0

    return tuple(
        Source(each.key, change(i, 0), change(i, 1), each.low, each.value, each.high, each.furthest)
        for i, each in enumerate(moved)
    )


def _makespans(lanes: Lanes, tables: Sequence[Floats]) -> list[float]:
    """Relative change of the step under each table; all of them and the step itself side by side."""
    whole = [lanes.seconds, *tables]
    found = _on_threads(lanes, len(whole), lambda of: np.stack(whole[of], axis=1))
    changes: list[float] = (found[1:] / found[0] - 1.0).tolist()
    return changes


def joint_of(lanes: Lanes, moved: Sequence[Moved], seed: int) -> Joint:
    """The step with all sources drawn at once: those that move seconds together on the engine's lanes, times the changes of the
    others.
    """
    sources, pulls = sources_of(lanes, moved), []
    relative = np.ones(NUM_DRAWS)
    for each, of in zip(sources, moved, strict=True):
        if not each.at_low and not each.at_high:
            continue
        drawn = each.held(positions(seed, each.key))
        sides = np.maximum(0.0, -drawn), np.maximum(0.0, drawn)
        for end, side, change in zip(of.ends, sides, (each.at_low, each.at_high), strict=True):
            if isinstance(end, np.ndarray):
                pulls.append(_pull(end - lanes.seconds, side))
            else:
                relative = relative * np.maximum(0.0, 1.0 + side * change)
    if pulls:
        found = _on_threads(lanes, 1 + NUM_DRAWS, lambda of: _drawn(lanes.seconds, pulls, of))
        relative = relative * (found[1:] / found[0])
    return Joint(sources, relative, seed)


@dataclass(frozen=True, eq=False)
class _Pull:
    """Classes (rows) that a source's end makes longer by so many seconds, times `side` (1 + draws,), which begins with 0."""

    rows: NDArray[np.int64]
    longer_s: Floats
    side: Floats


def _pull(longer_s: Floats, side: Floats) -> _Pull:
    rows = np.flatnonzero(longer_s)
    return _Pull(rows, longer_s[rows], np.concatenate((np.zeros(1), side)))


def _drawn(seconds: Floats, pulls: Sequence[_Pull], of: slice) -> Floats:
    """(classes, lanes) seconds of some draws; the first is the step as it is. No class takes less than none."""
    lanes = pulls[0].side[of]
    table = np.repeat(seconds[:, None], len(lanes), axis=1)
    for each in pulls:
        table[each.rows] += each.longer_s[:, None] * each.side[of]
    found: Floats = np.maximum(table, 0.0, out=table)
    return found


def _on_threads(lanes: Lanes, count: int, table: Callable[[slice], Floats]) -> Floats:
    """(count,) makespans; tables are made and swept a few at once, on as many threads as there are processors."""
    parts = [slice(first, min(first + TABLES_AT_ONCE, count)) for first in range(0, count, TABLES_AT_ONCE)]
    with ThreadPoolExecutor(max_workers=min(len(parts), os.cpu_count() or 1)) as pool:
        return np.concatenate(list(pool.map(lambda of: lanes.makespans(table(of)), parts)))
