"""What would change a run's answer most, in words: by how much and which way, and what to do or to measure about it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from simulator.report import numbers
from simulator.report.lever_words import range_words
from simulator.report.timeline_words import category_words
from simulator.results.run_result import RunResult
from simulator.results.step_result import RangePart

NUM_THINGS: Final = 3
SMALL: Final = 5e-4
"""Of the total: what moves it less is printed as nothing."""

CALIBRATE: Final = "measure the GPU's own kernels (moesim calibrate)"
LINKS: Final = "time the real library's messages and hold them against the table Collectives"
BALANCE: Final = (
    "count the rows of every rank in some steps of training and state them (moe.balance: {load_imbalance: …})"
)
TRACE: Final = "compare a profiled step (moesim compare TRACE SCENARIO)"
SPEEDS: Final = "time one kernel on every GPU of the cluster and state the spread (device.speed_cv)"
WATTS: Final = "read watts and clocks of a GPU in training, or state its cap (device.power_cap_w)"
HOST: Final = "measure the host (moesim calibrate), or take it out of the way (host.cuda_graph)"

MEASURES: Final[Mapping[str, str]] = {
    "run.unrecorded": f"time some steps of the real run: they take the place of this range; {TRACE} for where they differ",
    "software.unknown": "name the framework's release (framework, moesim list frameworks)",
    "long_run_slowdown": "time a step hours into a run",
    "routing_concentration": BALANCE,
    "expert_popularity_cv": BALANCE,
    "expert_popularity_drift_cv": BALANCE,
    "bias_update_rate": BALANCE,
    "aux_loss_pressure": BALANCE,
    "gpu_speed_cv": SPEEDS,
    "lone_chunk_full_sms": TRACE,
    "pp_boundary_wait": TRACE,
    "collective_sms": TRACE,
    "collective_stretch": TRACE,
    "tp_overlap_chunks": TRACE,
    "tp_overlap_sms": TRACE,
    "host_speed": HOST,
    "host_other_s": HOST,
    "host_link_frac": "time a copy between GPU and host while the other GPUs copy too",
    "host_memory_frac": "time the optimizer's update on the host",
    "notify_floor_s": LINKS,
    "dispatch_layout_s": LINKS,
    "all_to_all": LINKS,
    "tp_collectives": LINKS,
    "cp_collectives": LINKS,
    "pp_transfer": LINKS,
    "data_parallel": LINKS,
    **dict.fromkeys(("gemm", "expert_gemm", "attention", "memory_bound", "optimizer", "kernel_gaps"), CALIBRATE),
}
"""Source → what narrows it; of others, that it can be stated or measured, by what they are."""


def what_to_do(key: str) -> str:
    """What narrows a source of uncertainty."""
    if key.startswith("power."):
        return WATTS
    return MEASURES.get(key) or f"state it where you know it (assumptions.{key})"


def things(result: RunResult) -> tuple[str, ...]:
    """The sources that move the run most, the most first, a sentence each; none in documents that do not tell them."""
    return tuple(_sentence(part) for part in parts(result)[:NUM_THINGS])


def parts(result: RunResult) -> tuple[RangePart, ...]:
    """What the interval of a run is made of, the most first: the total's, or the step's where all phases run the same."""
    return (result.totals.ranges if result.totals.ranges is not None else result.step.ranges) or ()


def at_ends(part: RangePart) -> tuple[float, float]:
    """Relative changes at the low and the high end of a range; the least and the most in documents that tell no more."""
    if part.at_low is None or part.at_high is None:
        return part.low, part.high
    return part.at_low, part.at_high


def _sentence(part: RangePart) -> str:
    low, high = at_ends(part)
    name = range_words(part.what)
    key = "" if f"({part.what})" in name or name == category_words(part.what) else f" ({part.what})"
    ends = f"{numbers.signed_percent(low)} at its low end, {numbers.signed_percent(high)} at its high end"
    return f"{name[:1].upper()}{name[1:]}{key}: {ends}; {what_to_do(part.what)}."
