"""Committed predictions beside what was measured later, with the errors by kind of layer, pass and format."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import mean
from typing import Final

import hwprofiles
from hwprofiles.names import nearest
from hwprofiles.problems import show
from simulator.errors import InputError

PREDICTED: Final = Path(__file__).parents[1] / "data" / "proof"
MEASURED: Final = Path(hwprofiles.__file__).parent / "measurements"
KINDS: Final = ("layers", "steps")
BEGINNING: Final = "proof-"
"""Of a proof's name; behind it stand the measured GPU's and, but for the first set of cases, the set's."""
GOALS: Final = {"layers": (0.06, 0.15), "steps": (0.06, 0.15), "memory": (0.05, 0.15)}
"""Mean absolute error, and the error that none may be above."""
Cells = Mapping[str, str]


@dataclass(frozen=True)
class Figure:
    """What was predicted and measured, seconds or bytes. group: with which others it is summed up; of: goals by this name."""

    name: str
    what: str
    group: str
    of: str
    predicted: float
    measured: float

    @property
    def error(self) -> float:
        """Relative, signed."""
        return self.predicted / self.measured - 1.0


@dataclass(frozen=True)
class Proof:
    """All figures of one GPU; missing: of what was measured and not predicted, or the other way round; notes: why."""

    name: str
    figures: tuple[Figure, ...]
    missing: tuple[str, ...]


def proof_names() -> tuple[str, ...]:
    """Proofs all of whose predictions are measured."""
    kinds: dict[str, list[str]] = {}
    for path in sorted(PREDICTED.glob("*.csv")):
        gpu, _, kind = path.stem.rpartition("-")
        if kind in KINDS:
            kinds.setdefault(gpu, []).append(kind)
    return tuple(f"{BEGINNING}{gpu}" for gpu, own in kinds.items() if all(_measurement(gpu, kind) for kind in own))


def _measurement(gpu: str, kind: str) -> Path | None:
    """The newest."""
    return max(MEASURED.glob(f"{gpu}-proof-{kind}-*.csv"), default=None, key=lambda path: path.name)


@cache
def load_proof(name: str) -> Proof:
    """The proof of that name. Raises InputError: unknown."""
    if name not in proof_names():
        raise InputError(f"no proof is called {show(name)}{nearest(name, proof_names())}")
    gpu = name.removeprefix(BEGINNING)
    predicted = {kind: path for kind in KINDS if (path := PREDICTED / f"{gpu}-{kind}.csv").exists()}
    measured = {kind: found for kind in predicted if (found := _measurement(gpu, kind))}
    of_layers, of_steps = (read(predicted[kind]) if kind in predicted else [] for kind in KINDS)
    layers, steps = (read(measured[kind]) if kind in measured else [] for kind in KINDS)
    return compared(name, of_layers, layers, of_steps, steps)


def read(path: Path) -> list[dict[str, str]]:
    """Rows of a table."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def compared(
    name: str, of_layers: Sequence[Cells], layers: Sequence[Cells], of_steps: Sequence[Cells], steps: Sequence[Cells]
) -> Proof:
    """of_layers, of_steps: predictions; layers, steps: as hwprofiles.calibration.proof writes them."""
    figures = [*_layers(of_layers, layers), *_steps(of_steps, steps)]
    told = [f"{row['name']}: {row['note']}" for row in (*layers, *steps) if row.get("note")]
    seen = {figure.name for figure in figures}
    predicted = dict.fromkeys(row["name"] for row in (*of_layers, *of_steps))
    noted = {row["name"] for row in (*layers, *steps) if row.get("note")}
    told += [f"{each}: not measured" for each in predicted if each not in seen | noted]
    measured = dict.fromkeys(row["name"] for row in (*layers, *steps))
    told += [f"{each}: not predicted" for each in measured if each not in predicted]
    return Proof(name, tuple(figures), tuple(told))


def _layers(predicted: Sequence[Cells], measured: Sequence[Cells]) -> Iterator[Figure]:
    known = {(row["name"], row["phase"]): float(row["seconds"]) for row in predicted}
    for row in measured:
        key = row["name"], row["phase"]
        if row["seconds"] and key in known:
            yield Figure(*key, f"{row['kind']} {row['recipe']}", "layers", known[key], float(row["seconds"]))


def _steps(predicted: Sequence[Cells], measured: Sequence[Cells]) -> Iterator[Figure]:
    known = {row["name"]: row for row in predicted}
    for row in measured:
        name, group = row["name"], f"{row['recipe']} {row['issue']}{' again' if row['recompute'] else ''}"
        if name not in known:
            continue
        for what in ("forward_s", "backward_s", "optimizer_s", "step_s"):
            if row[what]:
                of = "steps" if what == "step_s" else ""
                yield Figure(name, what, group, of, float(known[name][what]), float(row[what]))
        if row["peak_bytes"] and row["step_s"]:
            peak = float(known[name]["peak_bytes"])
            yield Figure(name, "peak_bytes", group, "memory", peak, float(row["peak_bytes"]))


@dataclass(frozen=True)
class Summary:
    """Of figures together: how many, mean absolute and largest error, mean signed error."""

    count: int
    mean: float
    worst: float
    bias: float

    @classmethod
    def of(cls, figures: Sequence[Figure]) -> Summary:
        """Of at least one."""
        errors = [figure.error for figure in figures]
        return cls(len(errors), mean(map(abs, errors)), max(map(abs, errors)), mean(errors))


def summaries(figures: Sequence[Figure], key: Callable[[Figure], str]) -> dict[str, Summary]:
    """Those with one key together, in the order in which they come."""
    found: dict[str, list[Figure]] = {}
    for figure in figures:
        found.setdefault(key(figure), []).append(figure)
    return {name: Summary.of(each) for name, each in found.items()}
