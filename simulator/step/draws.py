"""The random draws of a step: expert loads and GPU speeds drawn, and the graph run once a draw.

Uneven loads and unequal GPUs lengthen a step together; what each of the two adds is told apart by running some of the draws
again with equal loads.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from simulator import portable
from simulator.assembly.conservation import check_loads, check_times
from simulator.assembly.host_waits import host_wait_s, other_s
from simulator.assembly.intervals import RankParts, observed_ops, overlap_with_next_s, rank_parts
from simulator.assembly.shapes import CORE_DRAWS, ROWS_PER_UNIT
from simulator.assembly.step_graph import StepGraph
from simulator.engine import certify, simulate_reference, sweep, sweep_batch
from simulator.engine.dag import Timeline
from simulator.results import explain
from simulator.results.step_result import LoadImbalanceTimes
from simulator.scenario import derived
from simulator.scenario.scenario import Scenario
from simulator.workload.document_load import DocumentLoad
from simulator.workload.expert_load import LoadModel, draw_loads
from simulator.workload.gpu_speed import Slowness, SpeedGroups, draw_slowness

Engine = Literal["sweep", "reference"]
Report = Callable[[float], None]
"""Is told which share of a long computation is done, 0 to 1."""
Floats = NDArray[np.float64]

ATTRIBUTION_DRAWS = 4
"""Draws that are run again to tell uneven loads from unequal GPUs."""
RATIO_DRAWS = 2
"""Draws that say how much longer an uneven step is, for its mean power: their mean is within a percent of all draws'."""
MAX_THREADS = 8
"""Most draws at once: each holds its multipliers, (draw rows, lanes) floats."""


MAX_REPLICAS = 64
"""Data-parallel replicas simulated where no expert group ties them together: the maximum over more grows slowly."""


@dataclass(frozen=True)
class Randomness:
    """What is drawn in a step.

    load: how unevenly experts are loaded, None where they are even. speed_cv: coefficient of variation of the GPUs' speed.
    speeds: how the GPUs meet. draws: how often a step is drawn, from `seed`. documents: what attention cores take of packed
    sequences, None where these are alike.
    """

    load: LoadModel | None
    speed_cv: float
    speeds: SpeedGroups
    draws: int
    seed: int
    documents: DocumentLoad | None = None

    @property
    def lanes(self) -> int:
        """Pipelines that are simulated side by side."""
        return self.speeds.lanes

    @property
    def is_random(self) -> bool:
        """Whether anything is drawn."""
        return self.load is not None or self.speed_cv > 0 or self.documents is not None


def randomness(
    scenario: Scenario, load: LoadModel | None, speed_cv: float, documents: DocumentLoad | None = None
) -> Randomness:
    """What a scenario draws. speed_cv: the stated one, where the scenario gives none.

    The lanes are the ranks of the slowest expert group, else the slowest data-parallel replicas (at most MAX_REPLICAS).
    """
    given, ep = scenario.device.speed_cv, scenario.parallel.ep
    spread = (speed_cv if given is None else given) if scenario.mechanisms.speed_spread else 0.0
    columns = derived.edp(scenario) if ep > 1 else derived.dp(scenario)
    speeds = SpeedGroups(
        columns, width=ep, lane_ranks=derived.stage_ranks(scenario) // (columns * ep),
        together=scenario.parallel.tp * scenario.parallel.cp,
        simulated=1 if ep > 1 else min(columns, MAX_REPLICAS),
    )  # fmt: skip
    return Randomness(load, spread, speeds, scenario.draws, scenario.seed, documents)


@dataclass(frozen=True, eq=False)
class Outcome:
    """Means over the draws. step_s: of each draw. even_s: the step of even loads on GPUs of one speed.

    multipliers: (draw rows,) of the durations, means over lanes and draws. host_s: waits for the host in the actions of that
    step of even loads, mean over the pipeline ranks. other_s: of the host alone at its end.
    imbalance_s, speed_spread_s, documents_s: what uneven loads, unequal GPUs and unequal sequences add to it: the last on top
    of the first, that on top of the second.
    """

    parts: RankParts
    step_s: Floats
    even_s: float
    multipliers: Floats
    imbalance_s: float = 0.0
    speed_spread_s: float = 0.0
    documents_s: float = 0.0
    host_s: float = 0.0
    other_s: float = 0.0


def run_draws(
    random: Randomness, graph: StepGraph, engine: Engine, *, told_apart: bool = True, report: Report | None = None
) -> Outcome:
    """Runs the graph once a draw; every lane is a rank of the expert group, lanes meet in every dispatch and combine.

    told_apart: also how much of that each of uneven loads, unequal GPUs and sequences adds; else they are left at 0. report:
    is told, behind each draw, which share of them is done.
    """
    ops, seconds = observed_ops(graph), graph.class_seconds()
    even = sweep(graph.dag, seconds)
    certify(graph.dag, seconds, None, even)
    host_s = host_wait_s(graph, even.start_s[:, 0], even.finish_s[:, 0])
    other = other_s(graph, even.finish_s[:, 0])
    ones = np.ones(graph.dag.num_draw_rows)
    if not random.is_random and engine == "sweep":
        step_s = np.array([even.makespan_s])
        check_times(graph, ones, even.makespan_s, step_s)
        parts = rank_parts(graph, ops, even.finish_s[ops])
        return _run_on(Outcome(parts, step_s, even.makespan_s, ones, host_s=host_s, other_s=other), graph, even)

    def run(draw: int) -> tuple[RankParts, float, Floats]:
        rows = draw_rows(random, graph, draw)
        return *_run_draw(graph, ops, rows, engine), ones if rows is None else rows.mean(axis=1)

    # The loops that draw and sweep hold no lock of Python (simpy does); the results' order is that of the draws.
    num_threads = min(MAX_THREADS, os.cpu_count() or 1) if engine == "sweep" else 1
    num_draws = random.draws if random.is_random else 1
    results = []
    with ThreadPoolExecutor(max_workers=num_threads) as pool:
        for result in pool.map(run, range(num_draws)):
            results.append(result)
            if report is not None:
                report(len(results) / num_draws)
    parts = RankParts(
        by_kind=explain.mean_parts([parts.by_kind for parts, _, _ in results]),
        bubble_s=explain.mean_parts([parts.bubble_s for parts, _, _ in results]),
        backward_end_s=float(np.mean([parts.backward_end_s for parts, _, _ in results])),
    )
    step_s = np.array([step_s for _, step_s, _ in results])
    multipliers = explain.mean_parts([rows for _, _, rows in results])
    check_times(graph, multipliers, sweep(graph.dag, seconds, multipliers[:, None]).makespan_s, step_s)
    shares = _shares(random, graph, step_s, even.makespan_s) if told_apart else (0.0, 0.0, 0.0)
    return _run_on(
        Outcome(parts, step_s, even.makespan_s, multipliers, *shares, host_s=host_s, other_s=other), graph, even
    )


def _run_on(outcome: Outcome, graph: StepGraph, even: Timeline) -> Outcome:
    """The outcome of a step behind which ranks go on with the next at once, where no barrier keeps them from it."""
    saved_s = overlap_with_next_s(graph, even, outcome.parts)
    if not saved_s:
        return outcome
    parts = replace(
        outcome.parts, bubble_s=outcome.parts.bubble_s - saved_s, backward_end_s=outcome.parts.backward_end_s - saved_s
    )
    return replace(outcome, parts=parts, step_s=outcome.step_s - saved_s)


def _shares(random: Randomness, graph: StepGraph, step_s: Floats, even_s: float) -> tuple[float, float, float]:
    """(uneven loads, unequal GPUs, unequal sequences): the first few draws again, without one after the other, tell them
    apart.
    """
    seconds, draws = graph.class_seconds(), range(len(step_s[:ATTRIBUTION_DRAWS]))

    def mean_s(without: Randomness) -> float:
        if not without.is_random:
            return even_s
        return float(np.mean([drawn_step_s(without, graph, seconds, draw) for draw in draws]))

    drawn = float(np.mean(step_s[:ATTRIBUTION_DRAWS]))
    alike = replace(random, documents=None)
    of_alike = drawn if random.documents is None else mean_s(alike)
    of_even_loads = of_alike if random.load is None else mean_s(replace(alike, load=None))
    return of_alike - of_even_loads, of_even_loads - even_s, drawn - of_alike


def draw_rows(random: Randomness, graph: StepGraph, draw: int) -> Floats | None:
    """(draw rows, lanes) multipliers of one random draw: expert loads times the speed of the GPU that runs them, then the
    speeds, then attention cores of packed documents times the speeds; a lane is a rank of the expert group. None where nothing
    is random.
    """
    if not random.is_random:
        return None
    micro_batches, seed, lanes, num_loads = graph.num_micro_batches, random.seed, random.lanes, graph.num_load_rows
    rows = np.empty((graph.dag.num_draw_rows, lanes))
    loads = rows[:num_loads].reshape(len(graph.draw_units), micro_batches, ROWS_PER_UNIT, lanes)
    if random.load is None:
        loads[:] = 1.0
    else:
        draw_loads(random.load, len(graph.draw_units), micro_batches, seed, draw, loads)
    check_loads(rows[:num_loads])
    packed = random.documents.draw(micro_batches, seed, draw) if random.documents else None
    work = micro_batches if packed is None else _column_work(random, packed)
    drawn = draw_slowness(random.speed_cv, graph.num_ranks, random.speeds, work, seed, draw)
    loads[:, :, 0] *= drawn.lanes[graph.unit_ranks]
    rows[num_loads : num_loads + graph.num_ranks] = drawn.lanes
    if graph.num_core_rows:
        rows[num_loads + graph.num_ranks :] = _core_rows(random, graph, packed, drawn)
    return rows


def _replicas_of_lanes(random: Randomness, documents: DocumentLoad) -> NDArray[np.int64]:
    """(columns, width, replicas of a lane): the data-parallel ranks whose sequences each lane computes."""
    groups = random.speeds
    ranks = np.arange(groups.columns * groups.width * groups.lane_ranks) // documents.replica_ranks
    by_lane = ranks.reshape(groups.columns, groups.width, groups.lane_ranks)
    return by_lane[:, :, :: min(groups.lane_ranks, documents.replica_ranks)]


def _column_work(random: Randomness, packed: Floats) -> Floats:
    """(columns,) micro-batches of mean length that take as long as a column's own, each as its longest lane."""
    documents = random.documents
    assert documents is not None
    longest = packed[0][_replicas_of_lanes(random, documents)].max(axis=(1, 2))
    return np.asarray(longest.shape[1] + documents.share * (longest - 1.0).sum(axis=1))


def _core_rows(random: Randomness, graph: StepGraph, packed: Floats | None, drawn: Slowness) -> Floats:
    """(core rows, lanes): kinds of core, pipeline ranks and micro-batches, in the graph's order."""
    ranks, micro_batches, documents = graph.num_ranks, graph.num_micro_batches, random.documents
    rows = np.empty((len(CORE_DRAWS), ranks, micro_batches, random.lanes))
    rows[:] = drawn.lanes[:, None, :]
    if packed is not None and documents is not None:
        of_lanes = _replicas_of_lanes(random, documents)[drawn.columns].reshape(random.lanes, -1)
        for window, found in zip(documents.windows, packed, strict=True):
            rows[int(window is not None)] *= found[of_lanes].max(axis=1).T
    return rows.reshape(-1, random.lanes)


def _run_draw(
    graph: StepGraph, ops: NDArray[np.int32], draws: Floats | None, engine: Engine
) -> tuple[RankParts, float]:
    if engine == "reference":
        timeline = simulate_reference(graph.dag, graph.class_seconds(), draws)
        return rank_parts(graph, ops, timeline.finish_s[ops]), timeline.makespan_s
    assert draws is not None
    times = sweep_batch(graph.dag, graph.class_seconds(), draws[None], ops, num_threads=1)
    return rank_parts(graph, ops, times.finish_s[0]), float(times.makespan_s[0])


def drawn_step_s(random: Randomness, graph: StepGraph, seconds: Floats, draw: int) -> float:
    """Seconds of one random draw of classes that take `seconds` (classes,); of the step itself where nothing is random."""
    rows = draw_rows(random, graph, draw)
    rows = np.ones((graph.dag.num_draw_rows, 1)) if rows is None else rows
    return float(sweep_batch(graph.dag, seconds, rows[None], num_threads=1).makespan_s[0])


def uneven_ratio(random: Randomness, graph: StepGraph) -> float:
    """The step of the first random draws (RATIO_DRAWS, in the mean) over that of even loads on equal GPUs."""
    if not random.is_random:
        return 1.0
    seconds = graph.class_seconds()
    even_s = sweep(graph.dag, seconds).makespan_s
    draws = range(min(RATIO_DRAWS, random.draws))
    with ThreadPoolExecutor(max_workers=min(RATIO_DRAWS, os.cpu_count() or 1)) as pool:
        drawn = list(pool.map(partial(drawn_step_s, random, graph, seconds), draws))
    return max(1.0, float(np.mean(drawn)) / even_s)


def longest_sequences(random: Randomness, graph: StepGraph) -> float:
    """Time of the attention cores of the longest of the simulated lanes over the mean sequence's, mean of the first draw's
    micro-batches.
    """
    if random.documents is None:
        return 1.0
    rows = draw_rows(replace(random, load=None, speed_cv=0.0), graph, 0)
    assert rows is not None
    kind = random.documents.windows[0] is not None
    cores = rows[len(rows) - graph.num_core_rows :].reshape(
        len(CORE_DRAWS), graph.num_ranks, graph.num_micro_batches, -1
    )
    return float(cores[int(kind), 0].max(axis=-1).mean())


def load_imbalance(random: Randomness, graph: StepGraph, outcome: Outcome) -> LoadImbalanceTimes | None:
    """Mean effect and amplification of uneven load, apart; None where experts are loaded evenly."""
    load = random.load
    if load is None:
        return None
    num_load_rows = graph.num_load_rows
    loads = draw_loads(load, len(graph.draw_units), graph.num_micro_batches, random.seed, 0)
    factor = float(loads[:, :, 0].max(axis=-1).mean())
    constant = np.ones((graph.dag.num_draw_rows, 1))
    constant[: num_load_rows : loads.shape[2]] = factor
    routed = np.isin(graph.dag.draw_row, np.arange(0, num_load_rows, loads.shape[2]))
    busy = graph.class_seconds()[graph.dag.op_class[routed]]
    mean_load = loads[:, :, 0].mean(axis=-1).ravel()[graph.dag.draw_row[routed] // loads.shape[2]]
    mean_effect_s = portable.dot(busy, mean_load - 1.0) / graph.num_ranks
    return LoadImbalanceTimes(
        max_over_mean=factor,
        mean_effect_s=mean_effect_s,
        amplification_s=outcome.imbalance_s - mean_effect_s,
        constant_factor_s=_run_draw(graph, observed_ops(graph), constant, "sweep")[1] - outcome.even_s,
        speed_spread_s=outcome.speed_spread_s,
        draws_sd_s=float(np.std(outcome.step_s)),
    )
