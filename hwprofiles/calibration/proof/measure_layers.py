"""Times layers alone."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

import torch

from hwprofiles.calibration.proof.layers import build
from hwprofiles.calibration.proof.timing import Queued, Timed
from hwprofiles.proof_cases.layer_cases import LayerCase
from hwprofiles.proof_cases.sizes import uneven

CALLS: Final = 12
WARM_UP: Final = 3
REST_S: Final = 0.02
"""Between two calls: what is timed are first launches, not a chip at its power limit."""
COLUMNS: Final[Mapping[str, str]] = {
    "name": "of the layer in hwprofiles/proof_cases/layer_cases.py",
    "kind": "moe, dense: norm, feed-forward network, residual; mla, gqa: norm, attention, residual; head: norm, logits, loss",
    "recipe": "number formats (hwprofiles/calibration/numerics)",
    "tokens": "of a sequence",
    "sequences": "of a call",
    "load": "even or skewed, of routed experts",
    "rows_cv": "standard deviation over mean of the experts' rows",
    "phase": "F: forward. I: the input's gradient alone, weights frozen. B: gradients of input and weights. W: B less I, since "
    "gradients of weights cannot be had alone",
    "seconds": "median by CUDA events, the launches being queued before; of W the difference of medians",
    "low": "low end of the middle 80 %; of W from the ends of B and I",
    "high": "its high end",
    "calls": "timed, behind 3",
    "peak_bytes": "most memory that torch held during the calls, weights and their gradients included",
    "clock_hz": "of the SMs at the end",
    "note": "why there is no time",
}  # fmt: skip


def rows_of(case: LayerCase, device: torch.device, clock_hz: Any) -> Iterator[Mapping[str, Any]]:
    """A row a pass. clock_hz: a call that gives the SMs' clock now. Raises CalibrationError, or torch's out-of-memory error."""
    calls, warm_up = (CALLS, WARM_UP) if device.type == "cuda" else (2, 1)
    built, queued = build(case, device), Queued(device)
    seconds: dict[str, list[float]] = {"F": [], "B": [], "I": []}
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    for phase, frozen in (("B", False), ("I", True)):
        built.freeze(frozen)
        for number in range(warm_up + calls):
            forward_s, out = queued.time(f"F {phase}", built.forward)
            backward_s, _ = queued.time(phase, lambda kept=out: built.backward(kept))  # type: ignore[misc]
            if number >= warm_up:
                seconds[phase].append(backward_s)
                seconds["F"] += [] if frozen else [forward_s]
            if device.type == "cuda":
                time.sleep(REST_S)
    common = {
        "name": case.name, "kind": case.kind, "recipe": case.recipe, "tokens": case.tokens, "sequences": case.sequences,
        "load": case.load if case.kind == "moe" else "", "rows_cv": uneven(case.rows) if case.rows else "",
        "calls": calls, "clock_hz": clock_hz(),
        "peak_bytes": torch.cuda.max_memory_allocated(device) if device.type == "cuda" else "",
    }  # fmt: skip
    timed = {phase: Timed.of(found) for phase, found in seconds.items()}
    for phase, found in timed.items():
        yield {**common, "phase": phase, "seconds": found.seconds, "low": found.low, "high": found.high}
    both, inputs = timed["B"], timed["I"]
    yield {
        **common, "phase": "W", "seconds": both.seconds - inputs.seconds, "low": both.low - inputs.high,
        "high": both.high - inputs.low,
    }  # fmt: skip
