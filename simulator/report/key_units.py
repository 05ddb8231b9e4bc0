"""The unit of a value by the end of its key, as the result document's keys are made: SI, or what the field counts in."""

from __future__ import annotations

from typing import Final

_BY_END: Final = (
    ("usd_per_gpu_hour", "USD/GPU-hour"),
    ("gpu_hours_per_trillion_tokens", "GPU-hours per 1e12 tokens"),
    ("tokens_per_s_per_gpu", "tokens/s"),
    ("gb_per_s", "1e9 bytes/s"),
    ("bytes_per_s", "bytes/s"),
    ("flop_per_s", "FLOP/s"),
    ("gpu_hours_paid", "GPU-hours"),
    ("effect_on_gpu_hours", "GPU-hours"),
    ("gpu_hours", "GPU-hours"),
    ("tokens_per_step", "tokens"),
    ("over_tokens", "tokens"),
    ("tokens", "tokens"),
    ("bytes_per_gpu", "bytes"),
    ("_bytes", "bytes"),
    ("_usd", "USD"),
    ("_hours", "h"),
    ("global_batch_size", "sequences"),
    ("seq_len", "tokens"),
    ("_sms", "SMs"),
    ("num_gpus", "GPUs"),
    ("_frac", "fraction"),
    ("_cv", "coefficient of variation"),
    ("share", "fraction"),
    ("_s", "s"),
)
"""End of a key → unit; the first that fits counts."""

_BY_SECTION: Final = (
    ("step.tflops", "1e12 FLOP/s"),
    ("step.mfu", "fraction"),
    ("step.ranges", "fraction"),
    ("step.model_flop_per_token", "FLOP/token"),
    ("memory.margin", "fraction"),
    ("basis", "fraction"),
)
"""Sections of the result document whose keys name no unit."""
_WHOLE: Final = frozenset({"bytes", "seconds", "steps"})
_OF_WHOLE: Final = {"bytes": "bytes", "seconds": "s", "steps": "steps"}


def unit_of(key: str) -> str:
    """The unit of a dotted key's number; "" where it has none or the key does not say."""
    last = key.rpartition(".")[2]
    if last in _WHOLE:
        return _OF_WHOLE[last]
    for section, unit in _BY_SECTION:
        if key.startswith(f"{section}.") or key == section:
            return unit
    return next((unit for end, unit in _BY_END if last.endswith(end)), "")
