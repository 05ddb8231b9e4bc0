"""Laws of a step: twice the durations is twice the time exactly, longer work never shortens, known bubbles hold."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.engine import critical_path, sweep
from simulator.schedule import ChunkSeconds, bubble_seconds, build_schedule
from tests.engine.graphs import KINDS, cases, pipeline_dag

DYADIC_S = st.integers(1, 640).map(lambda number: number / 64)  # sums of these are exact
ENGINE = settings(deadline=None, max_examples=100)


def simulated_bubbles(schedule, seconds):
    """Makespan - busy of each rank."""
    makespan_s = sweep(pipeline_dag(schedule), np.array([seconds.get(kind, 0.0) for kind in KINDS])).makespan_s
    return {makespan_s - sum(seconds[action.kind] for action in actions) for actions in schedule.ranks}


@ENGINE
@given(cases())
def test_scaling_by_two_is_exact(case):
    once = sweep(case.dag, case.class_seconds, case.draws)
    twice = sweep(case.dag, 2 * case.class_seconds, case.draws)
    assert np.array_equal(2 * once.start_s, twice.start_s)
    assert np.array_equal(2 * once.finish_s, twice.finish_s)


@ENGINE
@given(cases(), st.data())
def test_a_longer_operator_never_shortens(case, data):
    longer = case.class_seconds.copy()
    longer[data.draw(st.integers(0, len(longer) - 1))] += data.draw(st.floats(0, 5))
    before, after = (sweep(case.dag, seconds, case.draws) for seconds in (case.class_seconds, longer))
    assert (after.start_s >= before.start_s).all()
    assert (after.finish_s >= before.finish_s).all()


@ENGINE
@given(cases())
def test_lanes_without_joins_are_independent(case):
    draws = np.ones((case.dag.num_draw_rows, 1)) if case.draws is None else case.draws
    dag = replace(case.dag, is_join=np.zeros_like(case.dag.is_join))
    together = sweep(dag, case.class_seconds, draws)
    for lane in range(draws.shape[1]):
        alone = sweep(dag, case.class_seconds, draws[:, lane : lane + 1])
        assert np.array_equal(alone.finish_s[:, 0], together.finish_s[:, lane])


@ENGINE
@given(cases())
def test_critical_path_is_a_chain_without_gaps(case):
    timeline = sweep(case.dag, case.class_seconds, case.draws)
    path = critical_path(case.dag, timeline)
    if case.dag.num_ops == 0:
        assert path.size == 0
        return
    assert (timeline.start_s[path[0]] == 0).any()
    assert timeline.finish_s[path[-1]].max() == timeline.makespan_s
    for before, after in pairwise(path):
        assert before in case.dag.pred[case.dag.pred_ptr[after] : case.dag.pred_ptr[after + 1]]
        meets = timeline.finish_s[before][:, None] == timeline.start_s[after][None, :]
        assert meets.any() if case.dag.is_join[after] else meets.diagonal().any()


@ENGINE
@given(st.sampled_from(["1f1b", "gpipe"]), st.integers(1, 10), st.integers(0, 15), DYADIC_S, DYADIC_S)
def test_bubble_of_gpipe_and_1f1b(name, num_ranks, extra, forward_s, backward_s):
    schedule = build_schedule(name, num_ranks, num_ranks + extra)
    chunk = ChunkSeconds(forward_s, backward_s, weight_s=0, pair_s=0)
    found = simulated_bubbles(schedule, {"F": forward_s, "B": backward_s})
    assert found == {bubble_seconds(name, num_ranks, chunk)}


@pytest.mark.parametrize("num_ranks", range(2, 17, 2))
@pytest.mark.parametrize("extra", [0, 8])
def test_bubble_of_dualpipe(num_ranks, extra):
    """Exact where W = F = B/2 and F&B = F + B."""
    schedule = build_schedule("dualpipe", num_ranks, 2 * num_ranks + extra)
    chunk = ChunkSeconds(0.375, 0.75, weight_s=0.375, pair_s=1.125)
    found = simulated_bubbles(schedule, {"F": 0.375, "B": 0.75, "I": 0.375, "W": 0.375, "FB": 1.125})
    assert found == {bubble_seconds("dualpipe", num_ranks, chunk)}


def test_bubble_of_dualpipe_with_shorter_pairs():
    """P = 16, m = 120, F, B, W = 1, 2, 1, F&B = 2.4: 6.2 to 9.8 over the ranks, the formula says 9.8."""
    schedule = build_schedule("dualpipe", 16, 120)
    found = simulated_bubbles(schedule, {"F": 1, "B": 2, "I": 1, "W": 1, "FB": 2.4})
    assert min(found) == pytest.approx(6.2)
    assert max(found) == pytest.approx(bubble_seconds("dualpipe", 16, ChunkSeconds(1, 2, 1, 2.4))) == pytest.approx(9.8)


@ENGINE
@given(st.integers(1, 5), st.lists(DYADIC_S, min_size=5, max_size=5))
def test_dualpipe_with_equal_stages_is_affine_in_micro_batches(half_ranks, seconds):
    """Every further micro-batch in each direction costs the same, from m = 2P on."""
    num_ranks = 2 * half_ranks
    spans = [
        sweep(pipeline_dag(build_schedule("dualpipe", num_ranks, 2 * num_ranks + extra)), np.array(seconds)).makespan_s
        for extra in (0, 2, 4, 6)
    ]
    assert len(set(np.diff(spans))) == 1
