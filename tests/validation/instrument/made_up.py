"""Rows as the instrument has them, made up: nothing is predicted."""

from __future__ import annotations

from collections.abc import Mapping

from validation.instrument.outcome import Figure, Outcome

MEASURED_S = 2.5


def run(
    case_id: str = "R-1", predicted: float | None = 2.0, low: float = 1.0, high: float = 3.0, *,
    quantity: str = "step_time_s", measured: float = MEASURED_S, is_eligible: bool = True, gpu: str = "g", kind: str = "MoE",
    reasons: tuple[str, ...] = ("MXFP8",), source: str = "", release: str = "f@1", recorded: Mapping[str, str] | None = None,
) -> Outcome:  # fmt: skip
    """A row of `gpu`; predicted: None of one that was skipped because of `reasons`. recorded: default like no other row's."""
    group = {"model": "m", "gpu": gpu, "framework": "f", "release": "1", "precision": "p", "num_gpus": 8}
    if predicted is None:
        return Outcome(case_id, group, quantity, "x", reasons=reasons)
    figure = Figure(
        predicted, low, high, measured, predicted, {"gemm": 0.6 * predicted, "bubble": 0.4 * predicted}, 4096.0
    )
    return Outcome(
        case_id, group, quantity, "x", labels={"kind": kind, "source": source}, stack="s", assumed=("a=1",), figure=figure,
        is_eligible=is_eligible, recorded={"gpu": gpu, "case": case_id} if recorded is None else recorded, release=release,
    )  # fmt: skip
