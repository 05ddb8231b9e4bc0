"""One step, from scenario to result: the place to start reading.

scenario → hardware and counted work (step_inputs) → seconds by segment (assembly.unit_costs) → order of actions (schedule)
→ one graph (step.graph) → engine, once a random draw → parts by rank, explanation, memory (results).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from simulator.assembly.intervals import RankParts
from simulator.assembly.step_graph import KINDS, StepGraph
from simulator.engine import sweep
from simulator.results import explain, metrics
from simulator.results.interval import Interval
from simulator.results.step_result import FlopPerToken, ModelCounts, RankTimes, StepResult, StepTimes, parts_of
from simulator.results.widening import widened
from simulator.scenario.scenario import Scenario
from simulator.step.draws import Engine, Outcome, load_imbalance, run_draws
from simulator.step.effects import assumption_effects
from simulator.step.graph import build_graph
from simulator.step.inputs import StepInputs, step_inputs
from simulator.step.memory import step_memory
from simulator.step.notes import NOT_MODELLED, assumption_rows
from simulator.workload.model_counts import count_parameters, model_flop_per_token

Floats = NDArray[np.float64]


def simulate_step(
    scenario: Scenario, *, global_batch_size: int | None = None, schedule: str | None = None, engine: Engine = "sweep"
) -> StepResult:
    """Simulates one step of `global_batch_size` sequences (default: the full batch).

    schedule: another than the scenario's. engine: the compiled sweep, or the simpy reference (the same numbers, slower).
    The interval holds the ranges of the measurements and the effects of the assumptions, as in a run's document.
    Raises InputError for what the catalogue lacks, InconsistentSimulation if a conservation law is broken.
    """
    inputs = step_inputs(scenario)
    result = simulate_inputs(inputs, global_batch_size, schedule, engine)
    batch = global_batch_size or scenario.training.global_batch_size
    return widened(result, assumption_effects(inputs, batch, schedule))


def simulate_inputs(
    inputs: StepInputs, global_batch_size: int | None = None, schedule: str | None = None, engine: Engine = "sweep",
    *, explained: bool = True,
) -> StepResult:  # fmt: skip
    """`simulate_step` from inputs that are there already; the interval without the assumptions. Raises as it does.

    explained: also by further simulations what binds the step and what uneven loads and unequal GPUs add.
    """
    graph = build_graph(inputs, global_batch_size, schedule)
    outcome = run_draws(inputs, graph, engine, told_apart=explained)
    batch = global_batch_size or inputs.scenario.training.global_batch_size
    return _result(inputs, graph, outcome, batch, schedule, explained)


def _result(
    inputs: StepInputs, graph: StepGraph, outcome: Outcome, batch: int, schedule: str | None, explained: bool
) -> StepResult:
    scenario = inputs.scenario
    step_s = float(np.mean(outcome.step_s))
    by_rank = _by_rank(outcome.parts, step_s)
    parts = parts_of(by_rank)
    work = explain.busy(graph, outcome.multipliers)
    makespan = _makespan(graph)
    tokens = batch * scenario.training.seq_len
    rate = metrics.tokens_per_s_per_gpu(tokens, step_s, scenario.cluster.num_gpus)
    flop = FlopPerToken(**asdict(model_flop_per_token(scenario.model, scenario.training.seq_len)))
    down, up = explain.spread(graph, makespan, outcome.even_s)
    random_s = {"expert_imbalance": outcome.imbalance_s, "speed_spread": outcome.speed_spread_s}
    actions_s = sum(getattr(parts.mean, f"{k}_s") for k in ("forward", "backward", "weight", "overlapped_f_b"))
    return StepResult(
        stack_sha256=inputs.stack.sha256,
        model=ModelCounts(**asdict(count_parameters(scenario.model))),
        step=StepTimes(
            step_s=step_s,
            interval=Interval(low=step_s - down, high=step_s + up),
            tokens_per_step=tokens,
            tokens_per_s_per_gpu=rate,
            model_flop_per_token=flop,
            tflops=metrics.tflops(flop, rate),
            mfu=metrics.mfu(flop, rate, inputs.gpu.peak_flop_per_s["bf16"]),
            bubble_s=parts.mean.bubble_s,
            exposed_comm_s=max(0.0, actions_s - work.compute_s),
            optimizer_s=parts.mean.optimizer_s,
            by_rank=by_rank,
            parts=parts,
            by_category=explain.categories(work, step_s, actions_s, parts.mean.bubble_s, parts.mean.optimizer_s),
            binding=explain.binding(graph, makespan, outcome.even_s, random_s) if explained else (),
            imbalance=load_imbalance(inputs, graph, outcome) if explained else None,
        ),
        memory=step_memory(inputs, batch, schedule),
        assumptions=assumption_rows(inputs),
        not_modelled=NOT_MODELLED,
        basis=explain.basis(work),
    )


def _by_rank(parts: RankParts, step_s: float) -> tuple[RankTimes, ...]:
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
            other_s=0.0,
        )
        for rank in range(len(parts.bubble_s))
    )


def _makespan(graph: StepGraph) -> Callable[[Floats], float]:
    """Step seconds of a class table, without random load."""
    return lambda seconds: sweep(graph.dag, seconds).makespan_s
