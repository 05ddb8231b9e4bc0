"""Measured speeds that no run has: beyond what the GPU's tensor cores can, or steps of more than a year."""

from __future__ import annotations

from typing import Any, Final

from hwprofiles import catalog
from hwprofiles.units import SECONDS_PER_DAY

LONGEST_STEP_S: Final = 365 * SECONDS_PER_DAY


def impossible(column: str, measured: float, predicted: float, step: Any, gpu: str) -> str:
    """What is wrong with a measured figure; "" for nothing.

    predicted: the same figure of the predicted `step` (of the result document). The measured step has the predicted one's
    FLOP: with causal attention, the least of its two counts, against the GPU's fastest format.
    """
    is_time = column == "step_time_s"
    step_s = measured if is_time else step["step_s"] * predicted / measured
    if step_s > LONGEST_STEP_S:
        return f"{column}: is a step of {step_s:.3g} s, longer than a year ({measured:g}); correct the figure"
    peaks = catalog.load_gpu(gpu).peak_flop_per_s
    fastest = max(peaks.values()) / peaks["bf16"]
    share = step["mfu"]["bf16_dense_causal"] * step["step_s"] / fastest
    if share > step_s:
        return f"{column}: is beyond the peak of {gpu} in its fastest format ({measured:g}); correct the figure or the model"
    return ""
