"""What a simulated step says: its parts by rank, why it takes what it takes, its memory, its assumptions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from math import fsum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwprofiles.units import KILO, SECONDS_PER_HOUR
from simulator.assembly.intervals import RankParts
from simulator.assembly.step_graph import KINDS, StepGraph
from simulator.assembly.unit_costs import INSIDE
from simulator.engine import sweep
from simulator.results import explain, metrics
from simulator.results.interval import Interval
from simulator.results.rates import FlopPerToken
from simulator.results.step_power import RankWatts, StepWatts
from simulator.results.step_result import (
    DocumentTimes,
    ModelCounts,
    RankTimes,
    StepResult,
    StepTimes,
    parts_of,
)
from simulator.results.widening import parts_of_ranges
from simulator.scenario import derived
from simulator.scenario.scenario import Scenario
from simulator.schedule.action import Schedule
from simulator.step.collectives import collective_times
from simulator.step.draws import Outcome, load_imbalance, longest_sequences
from simulator.step.memory import step_memory
from simulator.step.notes import NOT_MODELLED, assumption_rows
from simulator.step.placed import placement_result
from simulator.step.power import StepPower
from simulator.step.prepared import PreparedStep, memory_question
from simulator.step.ranges import measured_ends
from simulator.workload.counted import documents_of
from simulator.workload.documents import mean_pairs
from simulator.workload.model_counts import count_parameters, model_flop_per_token
from simulator.workload.pairs import query_key_pairs

Floats = NDArray[np.float64]


def step_result(
    step: PreparedStep, order: Schedule, power: StepPower, outcome: Outcome, batch: int, *, explained: bool, ranged: bool
) -> StepResult:  # fmt: skip
    """The result of a step of `batch` sequences. explained: also by further simulations what binds it; ranged: as of
    `step_times`.
    """
    return StepResult(
        stack_sha256=step.hardware.stack.sha256,
        model=ModelCounts(**asdict(count_parameters(step.scenario.model))),
        step=step_times(step, power, outcome, batch, explained=explained, ranged=ranged),
        memory=step_memory(memory_question(step), order),
        placement=placement_result(step),
        assumptions=assumption_rows(step.assumptions),
        not_modelled=NOT_MODELLED,
        basis=explain.basis(explain.busy(power.graph, outcome.multipliers)),
    )


def step_times(
    step: PreparedStep, power: StepPower, outcome: Outcome, batch: int, *, explained: bool, ranged: bool = False
) -> StepTimes:
    """The times of `step_result`, without its memory. ranged: with the interval of its measurements, else with none."""
    scenario, hardware, graph = step.scenario, step.hardware, power.graph
    step_s = float(np.mean(outcome.step_s))
    by_rank = times_by_rank(outcome.parts, step_s)
    parts = parts_of(by_rank)
    work = explain.busy(graph, outcome.multipliers)
    makespan = _makespan(graph)
    tokens = batch * scenario.training.seq_len
    rate = metrics.tokens_per_s_per_gpu(tokens, step_s, scenario.cluster.num_gpus)
    counted = model_flop_per_token(scenario.model, scenario.training.seq_len, documents=documents_of(scenario))
    flop = FlopPerToken(**asdict(counted))
    sources, ends = measured_ends(step, power) if ranged else ((), Interval.exact(1.0))
    added_s = {
        "expert_imbalance": outcome.imbalance_s, "speed_spread": outcome.speed_spread_s,
        "document_spread": outcome.documents_s,
        "power_limit": power.step_s - power.burst_s if power.is_limited else 0.0,
    }  # fmt: skip
    host_s = outcome.host_s
    actions_s = fsum(getattr(parts.mean, f"{k}_s") for k in ("forward", "backward", "weight", "overlapped_f_b"))
    return StepTimes(
        step_s=step_s,
        interval=Interval(low=step_s * ends.low, high=step_s * ends.high),
        tokens_per_step=tokens,
        tokens_per_s_per_gpu=rate,
        **_useful(scenario, batch, rate),
        model_flop_per_token=flop,
        tflops=metrics.tflops(flop, rate),
        mfu=metrics.mfu(flop, rate, hardware.gpu.peak_flop_per_s["bf16"]),
        bubble_s=parts.mean.bubble_s,
        exposed_comm_s=max(0.0, actions_s - work.compute_s - host_s)
        + fsum(work.by_category.get(name, 0.0) for name in dict.fromkeys(INSIDE.values())),
        optimizer_s=parts.mean.optimizer_s,
        by_rank=by_rank,
        parts=parts,
        by_category=explain.categories(
            work, step_s, actions_s, parts.mean.bubble_s, parts.mean.optimizer_s, host_s, outcome.other_s
        ),
        binding=explain.binding(graph, makespan, outcome.even_s, added_s) if explained else (),
        collectives=collective_times(graph),
        power=_power(power, step_s, scenario.cluster.num_gpus),
        imbalance=load_imbalance(step.random, graph, outcome) if explained else None,
        documents=_documents(step, graph, outcome) if explained else None,
        ranges=parts_of_ranges(sources) if ranged else None,
    )


def _useful(scenario: Scenario, batch: int, rate: float) -> dict[str, Any]:
    """What of the tokens is no padding, where some is."""
    training = scenario.training
    useful = derived.useful_tokens(scenario)
    if useful == training.seq_len:
        return {}
    return {
        "useful_tokens_per_step": batch * useful,
        "useful_tokens_per_s_per_gpu": rate * useful / training.seq_len,
    }


def _documents(step: PreparedStep, graph: StepGraph, outcome: Outcome) -> DocumentTimes | None:
    documents = documents_of(step.scenario)
    if documents is None:
        return None
    return DocumentTimes(
        attended_frac=mean_pairs(documents) / query_key_pairs(step.scenario.training.seq_len, causal=True),
        longest_over_mean=longest_sequences(step.random, graph),
        added_s=outcome.documents_s,
    )


def _power(power: StepPower, step_s: float, num_gpus: int) -> StepWatts:
    watts = power.watts(step_s)
    mean_w = float(np.mean(watts))
    return StepWatts(
        mean_w=mean_w,
        limit_w=power.limit_w,
        speed=float(np.mean(power.speeds)),
        limited=power.is_limited,
        kwh_per_step=mean_w * num_gpus * step_s / (KILO * SECONDS_PER_HOUR),
        by_rank=tuple(
            RankWatts(pp_rank=rank, mean_w=float(mean), speed=float(speed))
            for rank, (mean, speed) in enumerate(zip(watts, power.speeds, strict=True))
        ),
    )


def times_by_rank(parts: RankParts, step_s: float) -> tuple[RankTimes, ...]:
    """Sums of intervals by kind; what is behind the last backward of all ranks is the optimizer's."""
    kind = {name: parts.by_kind[:, i] for i, name in enumerate(KINDS)}
    return tuple(
        RankTimes(
            pp_rank=rank,
            forward_s=float(kind["F"][rank]),
            backward_s=float(kind["B"][rank] + kind["I"][rank]),
            weight_s=float(kind["W"][rank]),
            overlapped_f_b_s=float(kind["FB"][rank]),
            bubble_s=float(parts.bubble_s[rank]),
            optimizer_s=max(0.0, step_s - parts.backward_end_s),
        )
        for rank in range(len(parts.bubble_s))
    )


def _makespan(graph: StepGraph) -> Callable[[Floats], float]:
    """Step seconds of a class table, without random load."""
    return lambda seconds: sweep(graph.dag, seconds).makespan_s
