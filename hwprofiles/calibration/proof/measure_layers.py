"""Times layers alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Final

import torch

from hwprofiles.calibration.proof.layers import PASSES, build
from hwprofiles.calibration.proof.timing import Queued, Timed
from hwprofiles.calibration.proof.weights_alone import WeightsAlone
from hwprofiles.proof_cases.layer_cases import LayerCase
from hwprofiles.proof_cases.sizes import in_words, uneven

CALLS: Final = 9
WARM_UP: Final = 3
REST_S: Final = 0.02
"""Between two calls: what is timed are first launches, not a chip at its power limit."""
COLUMNS: Final[Mapping[str, str]] = {
    "name": "of the layer in hwprofiles/proof_cases/layer_cases.py",
    "kind": "moe, dense: norm, feed-forward network, residual; mla, gqa: norm, attention, residual; head: norm, logits, loss",
    "recipe": "number formats (hwprofiles/calibration/numerics), own: by this project's products",
    "tokens": "of a sequence",
    "sequences": "of a call",
    "load": "even or skewed, of routed experts",
    "rows_cv": "standard deviation over mean of the experts' rows",
    "phase": "F: forward. I: the input's gradient alone, weights frozen. B: gradients of input and weights. W: gradients of "
    "weights alone, from random gradients of what products, norms and the router give, whose inputs need none",
    "seconds": "median by CUDA events, the launches being queued before",
    "low": "low end of the middle 80 %",
    "high": "its high end",
    "calls": "timed, behind 3",
    "peak_bytes": "most memory that torch held during the calls, weights and their gradients included",
    "clock_hz": "of the SMs at the end",
    "note": "why there is no time, or what is wrong with it",
}  # fmt: skip


def rows_of(case: LayerCase, device: torch.device, clock_hz: Any) -> Iterator[Mapping[str, Any]]:
    """A row a pass. clock_hz: a call that gives the SMs' clock now. Raises CalibrationError, or torch's out-of-memory error."""
    calls, warm_up = (CALLS, WARM_UP) if device.type == "cuda" else (2, 1)
    built, queued = build(case, device), Queued(device)
    seconds: dict[str, list[float]] = {phase: [] for phase in PASSES}
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)

    late: dict[str, list[float]] = {phase: [] for phase in PASSES}

    def pass_by_pass(phase: str, forward: Callable[[], Any], backward: Callable[[Any], Any]) -> None:
        """Calls that waited for the host are made again, as often as there are calls in all."""
        for number in range(warm_up + 2 * calls):
            forward_s, out = queued.time(f"F {phase}", forward)
            is_forward_late = queued.is_late
            backward_s, _ = queued.time(phase, partial(backward, out))
            if number >= warm_up:
                (late if queued.is_late else seconds)[phase].append(backward_s)
                if phase == "B":
                    (late if is_forward_late else seconds)["F"].append(forward_s)
            if device.type == "cuda":
                time.sleep(REST_S)
            if len(seconds[phase]) >= calls:
                break

    for phase, frozen in (("B", False), ("I", True)):
        built.freeze(frozen)
        pass_by_pass(phase, built.forward, built.backward)
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else ""
    alone = WeightsAlone(built.module, built.forward)
    pass_by_pass("W", alone.forward, alone.backward)
    common = {
        "name": case.name, "kind": case.kind, "recipe": in_words(case.recipe, case.products), "tokens": case.tokens,
        "sequences": case.sequences, "load": case.load if case.kind == "moe" else "",
        "rows_cv": uneven(case.rows) if case.rows else "",
        "clock_hz": clock_hz(), "peak_bytes": peak,
    }  # fmt: skip
    for phase in PASSES:
        found = Timed.of(seconds[phase] or late[phase])
        note = "" if seconds[phase] else "the GPU waited for the host"
        yield {
            **common, "phase": phase, "seconds": found.seconds, "low": found.low, "high": found.high, "calls": found.calls,
            "note": note,
        }  # fmt: skip
