"""Law: an engine returns a timeline of the whole graph or raises; never a short time, never a NaN."""

from dataclasses import replace

import numpy as np
import pytest

from simulator.engine import Timeline, certify, critical_path, simulate_reference, sweep, sweep_batch
from simulator.engine.sweep import sweep_tables
from simulator.errors import InconsistentSimulation
from tests.engine.graphs import make_dag


def sound_dag():
    return make_dag([(0, 0, [], 0, False), (1, 1, [0], -1, True)], num_classes=2, num_draw_rows=1)


def run_batch(dag, class_seconds, draws):
    sweep_batch(dag, class_seconds, np.ones((1, dag.num_draw_rows, 1)) if draws is None else draws[None])


def run_certify(dag, class_seconds, draws):
    lanes = 1 if draws is None else draws.shape[-1]
    certify(dag, class_seconds, draws, Timeline(*np.zeros((2, dag.num_ops, lanes))))


ENGINES = [simulate_reference, sweep, run_batch, run_certify]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("bad", [np.nan, -1e-300, np.inf])
def test_bad_durations(engine, bad):
    with pytest.raises(InconsistentSimulation, match=r"seconds of class 1 is .*; must be finite and at least 0"):
        engine(sound_dag(), np.array([1.0, bad]), None)
    with pytest.raises(InconsistentSimulation, match="seconds of class 1 is "):
        engine(sound_dag(), np.array([-0.0, bad]), None)  # whose bits are above those of all others
    with pytest.raises(InconsistentSimulation, match=r"draws of row 0 is .*; must be finite and at least 0"):
        engine(sound_dag(), np.array([1.0, 1.0]), np.array([[1.0, bad, 2.0]]))


def test_a_negative_zero_is_none():
    assert sweep(sound_dag(), np.array([-0.0, 2.0])).makespan_s == 2.0
    with pytest.raises(InconsistentSimulation, match="overflow"):
        sweep(sound_dag(), np.array([-0.0, 1e308]), np.array([[2.0, -0.0]]))


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        (np.array([[1.0], [np.nan]]), "seconds of class 1 is nan"),
        (np.ones((1, 3)), r"tables have shape \(1, 3\), not \(2, lanes\)"),
    ],
)
def test_bad_tables(tables, message):
    with pytest.raises(InconsistentSimulation, match=message):
        sweep_tables(sound_dag(), tables)


@pytest.mark.parametrize("engine", ENGINES)
def test_overflow(engine):
    with pytest.raises(InconsistentSimulation, match="overflow"):
        engine(sound_dag(), np.array([1.0, 1e308]), np.array([[2.0]]))


@pytest.mark.parametrize("engine", ENGINES)
def test_wrong_shapes(engine):
    with pytest.raises(InconsistentSimulation, match=r"class_seconds has shape \(1,\), not \(2,\)"):
        engine(sound_dag(), np.array([1.0]), None)
    with pytest.raises(InconsistentSimulation, match=r"draws have shape \(2, 1\), not \(1, lanes\)"):
        engine(sound_dag(), np.array([1.0, 1.0]), np.ones((2, 1)))
    with pytest.raises(InconsistentSimulation, match="draws have shape"):
        engine(sound_dag(), np.array([1.0, 1.0]), np.ones((1, 0)))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"op_class": np.array([0, 2], np.int32)}, "op_class has an entry outside 0 to 1"),
        ({"resource": np.array([-1, 0], np.int32)}, "resource has an entry outside"),
        ({"pred": np.array([2], np.int32)}, "pred has an entry outside 0 to 1"),
        ({"draw_row": np.array([1, 0], np.int32)}, "draw_row has an entry outside -1 to 0"),
        ({"pred_ptr": np.array([0, 1], np.int32)}, "pred_ptr does not rise"),
        ({"pred_ptr": np.array([0, 2, 1], np.int32)}, "pred_ptr does not rise"),
        ({"is_join": np.array([True])}, r"is_join has shape \(1,\)"),
        ({"resource": np.zeros(2, np.int32), "pred": np.array([1], np.int32)}, "1 does not wait for operator 0"),
    ],
)
def test_unsound_graphs(engine, change, message):
    with pytest.raises(InconsistentSimulation, match=message):
        engine(replace(sound_dag(), **change), np.array([1.0, 1.0]), None)


def crossed_dag():
    """Streams 0: operators 0, 1; 1: operators 2, 3. Operator 0 waits for 3, and 2 for 1."""
    return replace(
        make_dag([(0, 0, [], -1, False)] * 2 + [(0, 1, [], -1, False)] * 2, num_classes=1),
        pred_ptr=np.array([0, 1, 2, 3, 4], np.int32),
        pred=np.array([3, 0, 1, 2], np.int32),
    )


@pytest.mark.parametrize("engine", ENGINES)
def test_deadlock_shows_the_cycle(engine):
    cycle = "operator 0 .resource 0. waits for operator 3 .resource 1. waits for operator 2 .* waits for operator 1 .*"
    with pytest.raises(InconsistentSimulation, match=f"deadlock: {cycle} waits for operator 0"):
        engine(crossed_dag(), np.array([1.0]), None)


def test_deadlock_behind_finished_work():
    """The part that can run runs; the rest is reported although simpy itself would return a short time."""
    free = make_dag([(0, 2, [], -1, False)], num_classes=1, num_resources=3)
    crossed = crossed_dag()
    dag = replace(
        crossed,
        op_class=np.concatenate([crossed.op_class, free.op_class]),
        resource=np.concatenate([crossed.resource, free.resource]),
        draw_row=np.concatenate([crossed.draw_row, free.draw_row]),
        is_join=np.concatenate([crossed.is_join, free.is_join]),
        pred_ptr=np.append(crossed.pred_ptr, len(crossed.pred)).astype(np.int32),
        num_resources=3,
    )
    for engine in ENGINES:
        with pytest.raises(InconsistentSimulation, match="deadlock: operator 0"):
            engine(dag, np.array([1.0]), None)


def test_an_order_that_is_not_topological():
    """The reference needs no topological order, the sweep says that it does."""
    dag = replace(
        make_dag([(0, 0, [], -1, False), (0, 1, [], -1, False)], num_classes=1),
        pred_ptr=np.array([0, 1, 1], np.int32),
        pred=np.array([1], np.int32),
    )
    assert simulate_reference(dag, np.array([1.0]), None).makespan_s == 2
    for engine in (sweep, run_batch, run_certify):
        with pytest.raises(InconsistentSimulation, match="operator 0 waits for operator 1, which comes later"):
            engine(dag, np.array([1.0]), None)


def test_batch_arguments():
    dag, seconds, draws = sound_dag(), np.array([1.0, 1.0]), np.ones((2, 1, 3))
    with pytest.raises(ValueError, match="subset has an operator outside 0 to 1"):
        sweep_batch(dag, seconds, draws, np.array([2]))
    with pytest.raises(ValueError, match="subset names an operator twice"):
        sweep_batch(dag, seconds, draws, np.array([1, 1]))
    with pytest.raises(InconsistentSimulation, match="draws_batch has shape"):
        sweep_batch(dag, seconds, draws[0])
    with pytest.raises(InconsistentSimulation, match=r"class_seconds has shape \(3, 2\) for 2 draws"):
        sweep_batch(dag, np.ones((3, 2)), draws)


def test_critical_path_of_a_timeline_with_a_gap():
    gap = Timeline(np.array([[0.0], [1.5]]), np.array([[1.0], [2.5]]))
    with pytest.raises(InconsistentSimulation, match="operator 1 starts in lane 0 when none"):
        critical_path(sound_dag(), gap)
