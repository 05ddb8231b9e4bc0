"""The order in which kernels are measured: a coarse grid of all kinds, then more points where neighbours disagree most.

How well a point could be told from others: the seconds of its work interpolated (log-log, from the NEIGHBOURS nearest of its
kind, weighted by their distance), beside those measured. A candidate is worth the disagreement around it times its distance
from what was measured.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hwprofiles.calibration.rates.case import COLUMNS, RateCase

SEED: Final = 7
NEIGHBOURS: Final = 3
NEW_KIND: Final = 1.0
"""Disagreement (of a logarithm) that is taken of a kind with fewer than two points."""
FAILURES: Final = 2
"""Kernels of a kind without one success, after which no further one is tried."""
SMALLEST: Final = 1e-3
"""Distance, in powers of two, below which two points are one."""
KIND: Final = ("part", "op", "variant", "dtype", "library", "beside")
WORK: Final = ("flop", "bytes")
SIZES: Final = tuple(name for name in COLUMNS if name not in (*KIND, *WORK, "loads", "causal"))

Floats = NDArray[np.float64]
Kind = tuple[str, ...]


def key_of(cells: Mapping[str, Any]) -> tuple[str, ...]:
    """What makes two rows the same kernel, from a case's cells or from a row of the table."""
    return tuple(_text(cells.get(name, "")) for name in COLUMNS)


def kind_of(cells: Mapping[str, Any]) -> Kind:
    """Kernels that inform each other."""
    return tuple(_text(cells.get(name, "")) for name in KIND)


def _text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def coarse_order(cases: Iterable[RateCase]) -> list[RateCase]:
    """Cases of level 0, of each kind in an order drawn once and for all; every beginning holds all kinds in proportion."""
    kinds: dict[Kind, list[RateCase]] = defaultdict(list)
    for case in cases:
        if case.level == 0:
            kinds[kind_of(case.cells)].append(case)
    placed: list[tuple[float, int, RateCase]] = []
    for number, (_, of_kind) in enumerate(sorted(kinds.items())):
        random.Random(SEED).shuffle(of_kind)  # noqa: S311
        placed += [((idx + 0.5) / len(of_kind), number, case) for idx, case in enumerate(of_kind)]
    return [case for _, _, case in sorted(placed, key=lambda entry: entry[:2])]


def seconds_of(rows: Sequence[Mapping[str, Any]]) -> float:
    """The shortest of a kernel's states; nan where there is none."""
    found = [float(row["seconds"]) for row in rows if row.get("seconds", "") not in ("", None)]
    return min(found, default=math.nan)


@dataclass
class _Measured:
    """Points of a kind: places (log2 of sizes), log2 seconds of a unit of work, and kernels that failed."""

    places: list[Floats] = field(default_factory=list)
    logs: list[float] = field(default_factory=list)
    failures: int = 0


class Refinement:
    """Chooses the next candidate; is told of every kernel that was measured."""

    def __init__(self, candidates: Iterable[RateCase]) -> None:
        self._left: dict[Kind, list[tuple[RateCase, Floats]]] = defaultdict(list)
        for case in candidates:
            self._left[kind_of(case.cells)].append((case, _place(case.cells)))
        self._measured: dict[Kind, _Measured] = defaultdict(_Measured)
        self._scores: dict[Kind, Floats] = {}

    def learn(self, cells: Mapping[str, Any], seconds: float) -> None:
        """A kernel was measured (nan: it could not be)."""
        kind = kind_of(cells)
        measured = self._measured[kind]
        if math.isnan(seconds):
            measured.failures += 1
        else:
            measured.places.append(_place(cells))
            measured.logs.append(math.log2(seconds / _work(cells)))
        self._scores.pop(kind, None)

    def next(self) -> RateCase | None:
        """The candidate that is worth most, taken from those that are left; None: none is worth anything."""
        best: tuple[float, Kind, int] | None = None
        for kind, left in self._left.items():
            if not left:
                continue
            if kind not in self._scores:
                self._scores[kind] = _scores(self._measured[kind], [place for _, place in left])
            at = int(np.argmax(self._scores[kind]))
            score = float(self._scores[kind][at])
            if score > 0.0 and (best is None or score > best[0]):
                best = (score, kind, at)
        if best is None:
            return None
        _, kind, at = best
        self._scores.pop(kind)
        return self._left[kind].pop(at)[0]


def disagreements(places: Sequence[Floats], logs: Sequence[float]) -> Floats:
    """|log2 (interpolated from the others / measured)| of each point."""
    points, values = np.array(places), np.array(logs)
    found = np.empty(len(values))
    for idx in range(len(values)):
        others = np.arange(len(values)) != idx
        found[idx] = abs(_interpolated(points[others], values[others], points[idx]) - values[idx])
    return found


def _scores(measured: _Measured, candidates: Sequence[Floats]) -> Floats:
    if len(measured.logs) < 2:
        hopeless = not measured.logs and measured.failures >= FAILURES
        return np.full(len(candidates), 0.0 if hopeless else NEW_KIND)
    points = np.array(measured.places)
    wrong = disagreements(measured.places, measured.logs)
    return np.array([_interpolated(points, wrong, place) * _nearest(points, place) for place in candidates])


def _interpolated(points: Floats, values: Floats, place: Floats) -> float:
    """Mean of the values of the nearest points, weighted by 1 / distance."""
    distances = np.sqrt(((points - place) ** 2).sum(axis=1))
    near = np.argsort(distances, kind="stable")[:NEIGHBOURS]
    weights = 1.0 / np.maximum(distances[near], SMALLEST)
    return float((weights * values[near]).sum() / weights.sum())


def _nearest(points: Floats, place: Floats) -> float:
    distance = float(np.sqrt(((points - place) ** 2).sum(axis=1)).min())
    return distance if distance > SMALLEST else 0.0


def _place(cells: Mapping[str, Any]) -> Floats:
    """log2 of every size (0 where it does not apply); how uneven the loads are, as the share of the greatest."""
    sizes = [math.log2(1.0 + float(cells.get(name) or 0)) for name in SIZES]
    loads = [float(load) for load in str(cells.get("loads", "")).split()]
    spread = math.log2(max(loads) * len(loads) / sum(loads)) if loads and sum(loads) > 0.0 else 0.0
    causal = 1.0 if str(cells.get("causal", "")).lower() == "true" else 0.0
    return np.array([*sizes, spread, causal])


def _work(cells: Mapping[str, Any]) -> float:
    """FLOP, else bytes, else 1."""
    return next((float(cells[name]) for name in WORK if cells.get(name) not in (None, "", 0)), 1.0)
