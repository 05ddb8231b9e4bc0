"""The timeline of a step: one random draw, every operator of one of the pipelines that run side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulator.assembly.chunks import COMPUTE, NUM_STREAMS
from simulator.assembly.host_waits import host_waits
from simulator.assembly.intervals import ActionTimes, action_times, observed_ops, rank_parts
from simulator.assembly.step_graph import StepGraph
from simulator.engine import sweep_batch
from simulator.results.timeline import BUBBLE, END_WAIT, EXPOSED, HOST_WAIT, IDLE, Lane, OperatorClass, StepTimeline
from simulator.scenario.scenario import Scenario
from simulator.schedule.action import Action, Schedule
from simulator.step.draws import draw_rows
from simulator.step.graph import build_graph, order_of_actions
from simulator.step.operators import operator_classes
from simulator.step.power import power_of
from simulator.step.prepared import PreparedStep, prepare
from simulator.step.result import times_by_rank

Floats = NDArray[np.float64]

FIRST_DRAW = 0
ROUNDING = 1e-13
"""Of the step: a shorter wait is the rounding of sums."""
LANE_BYTES = 32_000_000
"""Most bytes of times that are held at once for lanes that are not shown."""


def step_timeline(scenario: Scenario, *, schedule: str | None = None, mean_step_s: float | None = None) -> StepTimeline:
    """The first random draw of the scenario's step at full batch, on the pipeline whose last backward ends last.

    schedule: another than the scenario's. mean_step_s: of all draws, as a result of the same step says it.
    Raises InputError as `simulate_step`.
    """
    return timeline_of(prepare(scenario), order_of_actions(scenario, schedule=schedule), mean_step_s)


def timeline_of(step: PreparedStep, order: Schedule, mean_step_s: float | None = None) -> StepTimeline:
    """`step_timeline` of a prepared step under an order of actions."""
    graph, random = power_of(step, build_graph(step, order)).graph, step.random
    rows = draw_rows(random, graph, FIRST_DRAW)
    draws = np.ones((graph.dag.num_draw_rows, 1)) if rows is None else rows
    ops = observed_ops(graph)
    watched = sweep_batch(graph.dag, graph.class_seconds(), draws[None], ops, num_threads=1)
    finish, step_s = watched.finish_s[0], float(watched.makespan_s[0])
    ends = np.stack([times.end_s[-1] for times in action_times(graph, ops, finish)])
    lane = int(ends.max(axis=0).argmax())
    backward_end_s = float(ends.max())
    shown = finish[:, lane : lane + 1]
    start_s, end_s = _times_of(graph, draws, lane)
    waits = host_waits(graph, start_s, end_s)
    idle = [
        _idle(times, start_s[mine], end_s[mine], waits[mine], backward_end_s, step_s)
        for times, mine in zip(action_times(graph, ops, shown), _compute_of_ranks(graph), strict=True)
    ]
    classes = operator_classes(graph)
    return StepTimeline(
        schedule=order.name,
        num_ranks=order.num_ranks,
        num_micro_batches=order.num_micro_batches,
        step_s=step_s,
        mean_step_s=mean_step_s if random.is_random else step_s,
        draw=FIRST_DRAW,
        num_draws=random.draws if random.is_random else 1,
        lane=Lane(lane, draws.shape[1], _why(draws.shape[1])),
        **_sorted_slices(graph, classes, start_s, end_s, idle),
        classes=classes,
        actions=np.array([_places(action) for action in graph.actions], dtype=np.int32).reshape(-1, 4),
        action_names=tuple(str(action) for action in graph.actions),
        by_rank=times_by_rank(rank_parts(graph, ops, shown), step_s),
        in_flight=tuple(most_in_flight(actions) for actions in order.ranks),
    )


def _why(lanes: int) -> str:
    return "the only one" if lanes == 1 else "its last backward ends last: the others wait for it"


def _times_of(graph: StepGraph, draws: Floats, lane: int) -> tuple[Floats, Floats]:
    """(n,) start and finish of every operator on one lane; swept once for every few operators, so that memory stays small."""
    dag, lanes = graph.dag, draws.shape[1]
    at_once = max(1, LANE_BYTES // (2 * 8 * lanes))
    start, finish = np.empty(dag.num_ops), np.empty(dag.num_ops)
    for first in range(0, dag.num_ops, at_once):
        some = np.arange(first, min(first + at_once, dag.num_ops), dtype=np.int32)
        times = sweep_batch(dag, graph.class_seconds(), draws[None], some, num_threads=1)
        start[some], finish[some] = times.start_s[0, :, lane], times.finish_s[0, :, lane]
    return start, finish


def _compute_of_ranks(graph: StepGraph) -> Iterator[NDArray[np.intp]]:
    """The operators on each rank's compute stream, in order."""
    for rank in range(graph.num_ranks):
        yield np.flatnonzero(graph.dag.resource == rank * NUM_STREAMS + COMPUTE)


@dataclass(frozen=True, eq=False)
class _Idle:
    """(k,) stretches of a rank's compute stream without work: when, why (index in IDLE), and the action, -1 for none."""

    start_s: Floats
    end_s: Floats
    why: NDArray[np.int64]
    action: NDArray[np.int64]


def _idle(
    times: ActionTimes, start_s: Floats, end_s: Floats, waits_s: Floats, backward_end_s: float, step_s: float
) -> _Idle:
    """What the operators of a compute stream leave, cut at the ends of the rank's actions. start_s, end_s: its operators';
    waits_s: of these, how long they waited for the host.
    """
    begins, ends, free = times.start_s[:, 0], times.end_s[:, 0], times.free_s[:, 0]
    issued = start_s - waits_s
    cuts = np.unique(np.concatenate(([0.0, backward_end_s, step_s], begins, ends, start_s, end_s, issued)))
    cuts = cuts[(cuts >= 0.0) & (cuts <= step_s)]
    begin, end = cuts[:-1], cuts[1:]
    running = np.searchsorted(start_s, begin, side="right") - 1
    is_idle = (running < 0) | (end_s[running] <= begin)
    is_idle &= end - begin > ROUNDING * step_s
    begin, end = begin[is_idle], end[is_idle]
    number = np.searchsorted(free, begin, side="right") - 1
    is_inside = (begin >= begins[number]) & (begin < ends[number])
    is_behind = begin >= ends[-1]
    why = np.where(is_inside, IDLE.index(EXPOSED), IDLE.index(BUBBLE))
    following = np.minimum(np.searchsorted(start_s, begin, side="right"), len(start_s) - 1)
    for_host = (waits_s[following] > 0) & (begin >= issued[following]) & (begin < start_s[following])
    why = np.where(for_host, IDLE.index(HOST_WAIT), why)
    why = np.where(begin >= backward_end_s, IDLE.index(END_WAIT), why)
    action = np.where(is_behind, -1, times.actions[number])
    return _Idle(begin, end, why, action)


def _sorted_slices(
    graph: StepGraph, classes: Sequence[OperatorClass], start_s: Floats, end_s: Floats, idle: Sequence[_Idle]
) -> dict[str, NDArray[Any]]:
    """The arrays of a StepTimeline; operators without length are left out."""
    streams = [rank * NUM_STREAMS + COMPUTE for rank in range(graph.num_ranks)]
    sizes = [len(each.start_s) for each in idle]
    first_idle = len(classes) - len(IDLE)
    start = np.concatenate((start_s, *(each.start_s for each in idle)))
    end = np.concatenate((end_s, *(each.end_s for each in idle)))
    stream_of = np.concatenate((graph.dag.resource, np.repeat(streams, sizes)))
    op_class = np.concatenate((graph.dag.op_class, *(first_idle + each.why for each in idle)))
    action = np.concatenate((_action_of(graph), *(each.action for each in idle)))
    order = np.lexsort((end, start, stream_of))
    order = order[end[order] > start[order]]
    return {
        "start_s": start[order],
        "end_s": end[order],
        "stream_of": stream_of[order].astype(np.int32),
        "op_class": op_class[order].astype(np.int32),
        "action": action[order].astype(np.int32),
    }


def _action_of(graph: StepGraph) -> NDArray[np.int64]:
    """(n,) the action of each operator, -1 behind the last; a joint transfer's is the one that sends."""
    spans = graph.spans
    action = np.searchsorted(spans.first, np.arange(graph.dag.num_ops), side="right") - 1
    action[graph.tail_first :] = -1
    transfers, senders = spans.joint_sends
    action[transfers] = senders
    return action.astype(np.int64)


def _places(action: Action) -> tuple[int, int, int, int]:
    (_, stage, micro_batch), *backward = action.halves()
    return (stage, micro_batch, *(backward[0][1:] if backward else (-1, -1)))


def most_in_flight(actions: Sequence[Action]) -> int:
    """Most micro-batches of a stage whose activations a rank holds at once, over its actions in order: from the forward to
    the weight gradients; a pair has both of its micro-batches.
    """
    held = most = 0
    for action in actions:
        held += action.kind in ("F", "FB")
        most = max(most, held)
        held -= action.kind in ("B", "W", "FB")
    return most
