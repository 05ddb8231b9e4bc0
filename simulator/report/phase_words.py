"""A phase in words: what it trains and how its layout was found."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from simulator.report import numbers
from simulator.results.interval import Estimate
from simulator.results.plan_result import LayoutPlan
from simulator.results.run_result import PhaseResult

NUM_LOSERS: Final = 3
"""Layouts beside the choice that are told."""


def lines(phase: PhaseResult) -> Iterator[str]:
    """What a phase trains and how its layout was found; nothing of one that trains as the scenario says."""
    if phase.keys is None and phase.plan is None:
        return
    yield f"{phase.name}: {' · '.join(_told(phase))}"
    if phase.plan is not None:
        yield from _found(phase.plan)


def hours(phase: PhaseResult) -> Estimate:
    """GPU-hours of a phase; its interval is that of its wall clock, none in older documents."""
    wall, value = phase.wall_interval, phase.gpu_hours
    if wall is None or not phase.wall_s:
        return Estimate.exact(value)
    low, high = (value * min(1.0, wall.low / phase.wall_s), value * max(1.0, wall.high / phase.wall_s))
    return Estimate(value=value, low=low, high=high)


def _told(phase: PhaseResult) -> Iterator[str]:
    """Batch and GPUs, layout, whether it fits, how fast it is; what of it a document tells."""
    if phase.global_batch_size is not None and phase.seq_len is not None and phase.num_gpus is not None:
        yield f"{phase.global_batch_size:,} × {phase.seq_len:,} tokens a step on {phase.num_gpus:,} GPUs"
    if phase.layout is not None:
        yield phase.layout
    if phase.fits is not None and phase.peak_bytes_per_gpu is not None:
        words = "fits" if phase.fits else "does not fit"
        yield f"{words}, {numbers.amount_of_bytes(phase.peak_bytes_per_gpu)} on the fullest rank"
    if phase.tflops_causal is not None and phase.tokens_per_s_per_gpu is not None:
        speed = f"{numbers.whole(phase.tokens_per_s_per_gpu)} tokens/s/GPU"
        yield f"{speed}, {numbers.tflops(phase.tflops_causal)} TFLOP/s a GPU (causal)"
    if phase.binds is not None:
        yield f"most bound by {phase.binds}"


def _found(plan: LayoutPlan) -> Iterator[str]:
    """How many layouts were looked at, by which rule one was taken, and what the next ones lose by."""
    counts = f"{plan.num_candidates:,} layouts, {plan.num_legal:,} legal, {plan.num_feasible:,} fit"
    yield f"  found among {counts}, {plan.num_simulated:,} simulated: {plan.rule}"
    losers = [each for each in plan.simulated if each.layout != plan.chosen.layout and each.loses_by]
    for each in losers[:NUM_LOSERS]:
        yield f"  not {each.layout}: {each.loses_by}"
    if plan.within_noise:
        yield f"  not told from the choice by the draws: {', '.join(plan.within_noise)}"
