"""How right the method is: predicted beside measured, from the accuracy file that `moesim validate --write` wrote.

The file is read, nothing is predicted here, and it is the same whatever the scenario. Errors are of the speed: above 0, the
prediction is too fast.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from statistics import fmean, median
from typing import Final, Literal

ACCURACY: Final = Path(__file__).parent / "data" / "accuracy.csv"

SPEEDS: Final = (
    "step.step_s", "step.tokens_per_s_per_gpu", "step.tflops.causal", "step.tflops.noncausal", "step.mfu.bf16_dense_causal",
    "step.mfu.bf16_dense_noncausal",
)  # fmt: skip
"""Quantities that say how fast a whole step is, in the order in which a run that gives several is read."""
UNITS: Final[Mapping[str, str]] = {
    "step.tokens_per_s_per_gpu": "tokens/s/GPU",
    "step.mfu.bf16_dense_causal": "MFU",
    "step.mfu.bf16_dense_noncausal": "MFU",
    "step.step_s": "steps/s",
    "step.tflops.causal": "TFLOP/s/GPU",
    "step.tflops.noncausal": "TFLOP/s/GPU",
}
"""Quantity of SPEEDS → unit of the speed; of a step's time that is its inverse."""
UNIT_NAMES: Final = ("tokens", "mfu", "steps", "tflops")
"""Short names of the units, for links."""
UNIT_OF_NAME: Final[Mapping[str, str]] = dict(zip(UNIT_NAMES, dict.fromkeys(UNITS.values()), strict=True))
TIMES: Final = ("_s", ".gpu_hours", "gpu_hours_per_trillion_tokens", ".cost_usd")
"""Ends of quantities that grow as the step gets slower; the speed's error is the other way round."""
NOT_TIMES: Final = ("tokens_per_s",)


@dataclass(frozen=True, slots=True)
class AccuracyRow:
    """A line of the accuracy file. group: "case" (a case file of its own) or "published" (stated from a table).

    low, high: ends of the 90 % interval of `predicted`. reading: the rank that a figure is read as. gpu: as the catalogue
    names it. error_frac: predicted over measured, minus one. note: how it was run, or what a total contains.
    """

    case: str
    stack: str
    reading: str
    gpu: str
    model: str
    group: str
    quantity: str
    predicted: float
    low: float
    high: float
    measured: float
    error_frac: float
    source: str
    note: str

    @property
    def is_inside(self) -> bool:
        """Whether the measured figure lies in the 90 % interval."""
        return self.low <= self.measured <= self.high

    @property
    def unit(self) -> str:
        """Unit of the speed. Raises KeyError where the quantity is none of SPEEDS."""
        return UNITS[self.quantity]

    @property
    def speeds(self) -> tuple[float, float, float, float]:
        """(measured, predicted, low, high) as speeds: of a time the inverse."""
        if self.is_time:
            return 1 / self.measured, 1 / self.predicted, 1 / self.high, 1 / self.low
        return self.measured, self.predicted, self.low, self.high

    @property
    def is_time(self) -> bool:
        """Whether the quantity grows as the step gets slower."""
        return self.quantity.endswith(TIMES) and not self.quantity.endswith(NOT_TIMES)

    @property
    def speed_error_frac(self) -> float:
        """Predicted speed over measured speed, minus one: of a time the inverse."""
        return self.measured / self.predicted - 1.0 if self.is_time else self.error_frac


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Of n rows: mean and median size of the speed's error, its mean with its sign (bias), and the share of the rows whose
    measured figure lies in the 90 % interval.
    """

    n: int
    mape: float
    median: float
    bias: float
    coverage: float


@cache
def read_accuracy(path: Path = ACCURACY) -> tuple[AccuracyRow, ...]:
    """The rows of the accuracy file, in its order. Raises ValueError where it has other columns."""
    numeric = {each.name for each in fields(AccuracyRow) if each.type == "float"}
    names = [each.name for each in fields(AccuracyRow)]
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if list(reader.fieldnames or ()) != names:
            raise ValueError(f"{path.name}: columns {', '.join(reader.fieldnames or ())}; expected {', '.join(names)}")
        return tuple(
            AccuracyRow(**{name: float(cells[name]) if name in numeric else cells[name] for name in names})  # type: ignore[arg-type]
            for cells in reader
        )


def speeds(rows: Iterable[AccuracyRow]) -> tuple[AccuracyRow, ...]:
    """The speed of every run, once under each stack: of a run that gives it in several ways, the first of SPEEDS."""
    best: dict[tuple[str, str], AccuracyRow] = {}
    for row in rows:
        if row.quantity not in SPEEDS:
            continue
        key = (row.case, row.stack)
        if key not in best or SPEEDS.index(row.quantity) < SPEEDS.index(best[key].quantity):
            best[key] = row
    return tuple(best.values())


def measured_gpus() -> tuple[str, ...]:
    """GPUs of the measured runs, sorted."""
    return tuple(sorted({row.gpu for row in speeds(read_accuracy())}))


def measured_families() -> tuple[str, ...]:
    """Families of models of the measured runs, sorted."""
    return tuple(sorted({family(row.model) for row in speeds(read_accuracy())}))


def units_of(rows: Iterable[AccuracyRow]) -> dict[str, int]:
    """Units of the speeds, the most common first, with their number of rows."""
    counts = Counter(row.unit for row in rows)
    return dict(sorted(counts.items(), key=lambda each: (-each[1], each[0])))


def accuracy_of(rows: Sequence[AccuracyRow]) -> Accuracy | None:
    """The summary of rows; None of none."""
    if not rows:
        return None
    errors = [row.speed_error_frac for row in rows]
    sizes = [abs(error) for error in errors]
    return Accuracy(len(rows), fmean(sizes), median(sizes), fmean(errors), fmean(row.is_inside for row in rows))


def chosen(
    rows: Iterable[AccuracyRow],
    gpus: Sequence[str] = (),
    models: Sequence[str] = (),
    group: Literal["all", "case", "published"] = "all",
) -> tuple[AccuracyRow, ...]:
    """The rows of these GPUs, families of models and group; an empty choice is all of them."""
    return tuple(
        row
        for row in rows
        if (not gpus or row.gpu in gpus) and (not models or family(row.model) in models) and group in ("all", row.group)
    )


def worst(rows: Iterable[AccuracyRow], number: int = 10) -> tuple[AccuracyRow, ...]:
    """The rows with the largest errors of the speed, the largest first: half as fast is as wrong as twice as fast."""
    return tuple(
        sorted(rows, key=lambda row: -max(1.0 + row.speed_error_frac, 1.0 / (1.0 + row.speed_error_frac)))[:number]
    )


def nearest(rows: Iterable[AccuracyRow], gpu: str, model: str, number: int = 10) -> tuple[AccuracyRow, ...]:
    """The rows that are most like a scenario: same GPU and family of models, then same family, then same GPU; of those the
    same model first.

    gpu: as the catalogue names it.
    """
    alike = [(likeness_of(row, gpu, model), row.model.lower() == model.lower(), row) for row in rows]
    ranked = sorted(alike, key=lambda each: (-each[0], not each[1]))
    return tuple(row for likeness, _, row in ranked if likeness)[:number]


def likeness_of(row: AccuracyRow, gpu: str, model: str) -> int:
    """3: same GPU and family of models, 2: same family, 1: same GPU, 0: neither."""
    return 2 * (family(row.model) == family(model)) + (row.gpu == gpu)


def family(model: str) -> str:
    """The first word of a model's name, in small letters: "Mixtral-8x22B" is of the family "mixtral"."""
    found = re.match(r"[^\W\d_]+", model)
    return found[0].lower() if found else model.lower()
