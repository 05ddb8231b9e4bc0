"""Laws of a step's timeline, over all schedules and layouts: it is the engine's, nothing is lost, its sums are the result's."""

from __future__ import annotations

from functools import lru_cache
from math import fsum

import numpy as np
import pytest
from hypothesis import given, settings

from simulator import load_scenario
from simulator.assembly.intervals import observed_ops, rank_parts
from simulator.engine import sweep
from simulator.results.timeline import BUBBLE, EXPOSED, HOST_WAIT, NUM_STREAMS, StepTimeline
from simulator.results.timeline_view import TimelineView
from simulator.schedule import SCHEDULES
from simulator.step.draws import draw_rows
from simulator.step.graph import build_graph, order_of_actions
from simulator.step.power import power_of
from simulator.step.prepared import prepare
from simulator.step.timeline import step_timeline, timeline_of
from tests.laws.runs import ROUNDING, changed
from tests.laws.scenarios import LAW, Document, scenarios
from tests.laws.test_data_parallel import DENSE


def busy_of(view: TimelineView, timeline: StepTimeline) -> np.ndarray:
    """(ranks * streams,) seconds of the bars."""
    return np.bincount(view.rank * NUM_STREAMS + view.stream, view.busy_s, timeline.num_ranks * NUM_STREAMS)


def clipped(timeline: StepTimeline, start_s: float, end_s: float) -> np.ndarray:
    """(ranks * streams,) seconds of the slices inside a window."""
    inside = np.minimum(timeline.end_s, end_s) - np.maximum(timeline.start_s, start_s)
    return np.bincount(timeline.stream_of, inside.clip(0), timeline.num_ranks * NUM_STREAMS)


def is_apart(stream_of: np.ndarray, start_s: np.ndarray, end_s: np.ndarray) -> bool:
    """Whether nothing overlaps on a stream."""
    order = np.lexsort((start_s, stream_of))
    same = stream_of[order][1:] == stream_of[order][:-1]
    return bool((start_s[order][1:][same] >= end_s[order][:-1][same]).all())


@pytest.mark.slow
@settings(LAW, max_examples=20)
@given(scenarios(max_ep=8))
def test_the_timeline_is_the_engines_and_loses_nothing(document: Document) -> None:
    prepared = prepare(load_scenario(document))
    order = order_of_actions(prepared.scenario)
    timeline, random = timeline_of(prepared, order), prepared.random
    graph = power_of(
        prepared, build_graph(prepared, order)
    ).graph  # at the speed of its watts, and with its links shared
    rows = draw_rows(random, graph, 0)
    swept = sweep(graph.dag, graph.class_seconds(), rows)
    lane = timeline.lane.index
    assert timeline.step_s == swept.makespan_s
    spent = (swept.finish_s - swept.start_s)[:, lane]
    idle = np.array([each.is_idle for each in timeline.classes])[timeline.op_class]
    assert (~idle).sum() == (spent > 0).sum()
    assert np.array_equal(np.sort(timeline.start_s[~idle]), np.sort(swept.start_s[spent > 0, lane]))
    busy = np.bincount(graph.dag.resource, spent, timeline.num_ranks * NUM_STREAMS)
    shown = np.bincount(timeline.stream_of[~idle], (timeline.end_s - timeline.start_s)[~idle], len(busy))
    assert shown == pytest.approx(busy, rel=ROUNDING)
    assert is_apart(timeline.stream_of, timeline.start_s, timeline.end_s)
    ops = observed_ops(graph)
    parts = rank_parts(graph, ops, swept.finish_s[ops][:, [lane]])
    for rank in range(timeline.num_ranks):
        told = timeline.by_category(rank)
        assert fsum(told.values()) == pytest.approx(timeline.step_s, rel=ROUNDING)
        slack = ROUNDING * timeline.step_s
        assert told.get(BUBBLE, 0.0) == pytest.approx(parts.bubble_s[rank], abs=slack)
        computing = fsum(spent[: graph.tail_first][graph.dag.resource[: graph.tail_first] == rank * NUM_STREAMS])
        actions = parts.by_kind[rank].sum()
        waits = told.get(EXPOSED, 0.0) + told.get(HOST_WAIT, 0.0)
        assert waits == pytest.approx(actions - computing, abs=slack)
        assert timeline.by_rank[rank].total_s == pytest.approx(timeline.step_s, rel=ROUNDING)


@lru_cache
def plain(schedule: str, pp: int, micro_batches: int) -> StepTimeline:
    """Equal stages, nothing random, no communication between stages: alike layers and no head."""
    document = changed(
        DENSE,
        cluster={"num_gpus": 8},
        parallel={"pp": pp, "schedule": schedule, "vpp": SCHEDULES[schedule].fewest_chunks, "tp": 8 // pp},
        training={"global_batch_size": micro_batches},
        mechanisms={"stage_imbalance": False, "pp_transfer": False},
    )
    return step_timeline(load_scenario(document))


@pytest.mark.parametrize(("schedule", "pp", "micro_batches"), [("gpipe", 4, 6), ("1f1b", 4, 8), ("1f1b", 2, 3)])
def test_the_bubble_of_equal_stages_read_off_the_timeline(schedule: str, pp: int, micro_batches: int) -> None:
    timeline = plain(schedule, pp, micro_batches)
    for rank in range(pp):
        told = timeline.by_category(rank)
        pipeline = timeline.step_s - timeline.by_rank[rank].optimizer_s
        assert told[BUBBLE] / pipeline == pytest.approx((pp - 1) / (micro_batches + pp - 1), rel=1e-6)
        assert EXPOSED not in told
