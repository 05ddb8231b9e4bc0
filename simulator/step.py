"""One step, from scenario to result: the place to start reading.

scenario → hardware and counted work (step_inputs) → seconds by segment (assembly.unit_costs) → order of actions (schedule)
→ one graph (assembly.expand) → engine, once a random draw → parts by rank, explanation, memory (results).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from simulator.assembly.conservation import check_graph, check_loads, check_times
from simulator.assembly.expand import expand
from simulator.assembly.intervals import RankParts, observed_ops, rank_parts
from simulator.assembly.step_graph import KINDS, StepGraph
from simulator.engine import certify, simulate_reference, sweep, sweep_batch
from simulator.results import explain, metrics
from simulator.results.interval import Interval
from simulator.results.step_result import RankTimes, StepResult, StepTimes, parts_of
from simulator.scenario import derived
from simulator.scenario.scenario import Scenario
from simulator.schedule import build_schedule
from simulator.step_inputs import StepInputs, step_inputs
from simulator.step_memory import step_memory
from simulator.step_notes import NOT_MODELLED, assumption_rows
from simulator.workload.expert_load import draw_loads

Engine = Literal["sweep", "reference"]
Floats = NDArray[np.float64]

MAX_THREADS = 8
"""Most draws at once: each holds its multipliers, (draw rows, lanes) floats."""


def simulate_step(
    scenario: Scenario, *, global_batch_size: int | None = None, schedule: str | None = None, engine: Engine = "sweep"
) -> StepResult:
    """Simulates one step of `global_batch_size` sequences (default: the full batch).

    schedule: another than the scenario's. engine: the compiled sweep, or the simpy reference (the same numbers, slower).
    Raises InputError for what the catalogue lacks, InconsistentSimulation if a conservation law is broken.
    """
    return simulate_inputs(step_inputs(scenario), global_batch_size, schedule, engine)


class StepSimulator:
    """`simulate_step` for several batches of a scenario: what does not depend on the batch is computed once."""

    def __init__(self, engine: Engine = "sweep") -> None:
        self._engine: Engine = engine
        self._inputs: StepInputs | None = None

    def __call__(self, scenario: Scenario, *, global_batch_size: int, schedule: str) -> StepResult:
        """One step of `global_batch_size` sequences. Raises as `simulate_step`."""
        if self._inputs is None or self._inputs.scenario is not scenario:
            self._inputs = step_inputs(scenario)
        return simulate_inputs(self._inputs, global_batch_size, schedule, self._engine)


def simulate_inputs(
    inputs: StepInputs, global_batch_size: int | None = None, schedule: str | None = None, engine: Engine = "sweep"
) -> StepResult:
    """`simulate_step` from inputs that are there already. Raises as it does."""
    graph = build_graph(inputs, global_batch_size, schedule)
    outcome = run_draws(inputs, graph, engine)
    return _result(inputs, graph, outcome, global_batch_size or inputs.scenario.training.global_batch_size, schedule)


def build_graph(inputs: StepInputs, global_batch_size: int | None = None, schedule: str | None = None) -> StepGraph:
    """The step as a graph with a class table. Raises InconsistentSimulation where an action or FLOP is lost."""
    scenario = inputs.scenario
    micro_batches = derived.num_micro_batches(scenario, global_batch_size)
    order = build_schedule(schedule or scenario.parallel.schedule, scenario.parallel.pp, micro_batches)
    graph = expand(
        order,
        inputs.stages,
        inputs.tail(order),
        pair_overlap=derived.overlaps_pairs(scenario),
        wait_at_boundary=inputs.assumptions["pp_boundary_wait"].value >= 0.5,
    )
    check_graph(graph, inputs.workload)
    return graph


@dataclass(frozen=True, eq=False)
class Outcome:
    """Means over the draws. step_s: of each draw. even_s: the step without any random load."""

    parts: RankParts
    step_s: Floats
    even_s: float


def run_draws(inputs: StepInputs, graph: StepGraph, engine: Engine) -> Outcome:
    """Runs the graph once a draw; every lane is a rank of the expert group, lanes meet in every dispatch and combine."""
    ops, seconds = observed_ops(graph), graph.class_seconds()
    even = sweep(graph.dag, seconds)
    certify(graph.dag, seconds, None, even)
    load = inputs.load_model
    if load is None and engine == "sweep":
        check_times(graph, even.makespan_s, np.array([even.makespan_s]))
        return Outcome(rank_parts(graph, ops, even.finish_s[ops]), np.array([even.makespan_s]), even.makespan_s)

    def run(draw: int) -> tuple[RankParts, float]:
        return _run_draw(graph, ops, draw_rows(inputs, graph, draw), engine)

    # The loops that draw and sweep hold no lock of Python (simpy does); the results' order is that of the draws.
    num_threads = min(MAX_THREADS, os.cpu_count() or 1) if engine == "sweep" else 1
    with ThreadPoolExecutor(max_workers=num_threads) as pool:
        results = list(pool.map(run, range(inputs.scenario.draws if load else 1)))
    parts = RankParts(
        by_kind=explain.mean_parts([parts.by_kind for parts, _ in results]),
        bubble_s=explain.mean_parts([parts.bubble_s for parts, _ in results]),
        backward_end_s=float(np.mean([parts.backward_end_s for parts, _ in results])),
    )
    step_s = np.array([step_s for _, step_s in results])
    check_times(graph, even.makespan_s, step_s)
    return Outcome(parts, step_s, even.makespan_s)


def draw_rows(inputs: StepInputs, graph: StepGraph, draw: int) -> Floats | None:
    """(draw rows, lanes) multipliers of one random draw, a lane a rank of the expert group; None where loads are even."""
    load = inputs.load_model
    if load is None:
        return None
    loads = draw_loads(load, len(graph.draw_units), graph.num_micro_batches, inputs.scenario.seed, draw)
    rows = loads.reshape(-1, load.ranks)
    check_loads(rows)
    return rows


def _run_draw(
    graph: StepGraph, ops: NDArray[np.int32], draws: Floats | None, engine: Engine
) -> tuple[RankParts, float]:
    if engine == "reference":
        timeline = simulate_reference(graph.dag, graph.class_seconds(), draws)
        return rank_parts(graph, ops, timeline.finish_s[ops]), timeline.makespan_s
    assert draws is not None
    times = sweep_batch(graph.dag, graph.class_seconds(), draws[None], ops, num_threads=1)
    return rank_parts(graph, ops, times.finish_s[0]), float(times.makespan_s[0])


def _result(inputs: StepInputs, graph: StepGraph, outcome: Outcome, batch: int, schedule: str | None) -> StepResult:
    scenario = inputs.scenario
    step_s = float(np.mean(outcome.step_s))
    by_rank = _by_rank(outcome.parts, step_s)
    parts = parts_of(by_rank)
    work = explain.busy(graph)
    makespan = _makespan(graph)
    tokens = batch * scenario.training.seq_len
    rate = metrics.tokens_per_s_per_gpu(tokens, step_s, scenario.cluster.num_gpus)
    flop = metrics.model_flop_per_token(scenario.model, scenario.training.seq_len)
    down, up = explain.spread(graph, makespan)
    actions_s = sum(getattr(parts.mean, f"{k}_s") for k in ("forward", "backward", "weight", "overlapped_f_b"))
    return StepResult(
        stack_sha256=inputs.stack.sha256,
        model=metrics.count_parameters(scenario.model),
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
            binding=explain.binding(graph, makespan, step_s - outcome.even_s),
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
