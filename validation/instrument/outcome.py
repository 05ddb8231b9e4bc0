"""What became of one row of a table of measured runs: a prediction beside the figure, or why there is none."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

PATHS: Final[Mapping[str, str]] = {
    "tokens_per_s_per_gpu": "step.tokens_per_s_per_gpu",
    "step_time_s": "step.step_s",
    "tflops_per_gpu": "step.tflops.noncausal",
    "mfu": "step.mfu.bf16_dense_noncausal",
}
"""Column of a speed → dotted path of the result document, the most direct first: a row is read as its first one.

TFLOP/s and MFU count attention in full, as llm-foundry does and Megatron-LM did; the others stand in conventions.yaml.
"""
TIME: Final = "step_time_s"
"""The one column that grows as a step gets slower."""


@dataclass(frozen=True)
class Figure:
    """A figure predicted beside measured, in the unit of its column; low and high: the 90 % interval.

    parts_s: seconds of the predicted step by category of work (they sum to it); tokens_per_gpu: of one step.
    """

    predicted: float
    low: float
    high: float
    measured: float
    step_s: float
    parts_s: Mapping[str, float]
    tokens_per_gpu: float


@dataclass(frozen=True)
class Outcome:
    """A row. group: what it is, as the catalogue or else the row names it; labels: what summaries tell apart besides.

    quantity: the column that is compared, "" where the row has none. assumed: "key=value" of what neither the row nor its
    framework's release says; by_release: of what the release says. without: what the stack was built without, in words.
    figure: None where reasons say why ("reason" or "reason: detail"). is_eligible: the row counts in summaries. stack: ""
    where none was chosen. steps_without: mechanism → the predicted step's seconds with it switched off, of those asked for.
    recorded: what the row records of how it was run (`recorded.of_row`); release: name@release of its software, else its words.
    """

    case_id: str
    group: Mapping[str, str | int | None]
    quantity: str
    source: str
    labels: Mapping[str, str] = field(default_factory=dict)
    stack: str = ""
    without: str = ""
    assumed: tuple[str, ...] = ()
    by_release: tuple[str, ...] = ()
    figure: Figure | None = None
    is_eligible: bool = False
    reasons: tuple[str, ...] = ()
    note: str = ""
    steps_without: Mapping[str, float] = field(default_factory=dict)
    recorded: Mapping[str, str] = field(default_factory=dict)
    release: str = ""

    @property
    def skipped_because(self) -> str | None:
        """The reasons in one; None of a row that is predicted."""
        return None if self.figure else "; ".join(self.reasons)

    @property
    def error_frac(self) -> float | None:
        """Predicted over measured minus one, of the figure as the row gives it."""
        return self.figure.predicted / self.figure.measured - 1.0 if self.figure else None

    @property
    def time_ratio(self) -> tuple[float, float, float]:
        """(predicted, low, high) of the step's time over the measured one. Raises ValueError where nothing is predicted."""
        if self.figure is None:
            raise ValueError(f"{self.case_id}: nothing is predicted")
        found = [each / self.figure.measured for each in (self.figure.predicted, self.figure.low, self.figure.high)]
        if self.is_time:
            return found[0], found[1], found[2]
        return 1.0 / found[0], 1.0 / found[2], 1.0 / found[1]

    @property
    def measured_step_s(self) -> float:
        """The step's time that the measured figure stands for. Raises ValueError where nothing is predicted."""
        ratio = self.time_ratio[0]
        assert self.figure is not None
        return self.figure.step_s / ratio

    @property
    def half_width(self) -> float:
        """Half of the 90 % interval's width over the predicted time. Raises ValueError where nothing is predicted."""
        predicted, low, high = self.time_ratio
        return (high - low) / 2.0 / predicted

    @property
    def is_time(self) -> bool:
        """Whether the figure is the step's time, not a speed."""
        return self.quantity == TIME

    @property
    def log_error(self) -> float:
        """Natural logarithm of the predicted over the measured step time: twice as slow is as wrong as half."""
        return math.log(self.time_ratio[0])

    def as_json(self) -> dict[str, Any]:
        """The row in the document of `moesim validate --json`."""
        found = self.figure
        return {
            "case_id": self.case_id,
            "group": dict(self.group),
            "labels": dict(self.labels),
            "quantity": self.quantity or None,
            "predicted": found.predicted if found else None,
            "low": found.low if found else None,
            "high": found.high if found else None,
            "measured": found.measured if found else None,
            "error_frac": self.error_frac,
            "step_error_frac": self.time_ratio[0] - 1.0 if found else None,
            "predicted_step_s": found.step_s if found else None,
            "measured_step_s": self.measured_step_s if found else None,
            "is_eligible": self.is_eligible,
            "inputs_assumed": list(self.assumed),
            "inputs_by_release": list(self.by_release),
            "skipped_because": self.skipped_because,
            "stack": self.stack or None,
            "left_out": self.without or None,
            "source": self.source,
            "note": self.note,
        }
