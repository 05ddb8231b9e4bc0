"""Law: the engines agree bit for bit on every graph, and the certificate accepts their timeline and no other."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.engine import Timeline, bench, certify, simulate_reference, sweep, sweep_batch
from simulator.engine.sweep import sweep_tables
from simulator.errors import InconsistentSimulation
from simulator.schedule import build_schedule
from tests.engine.graphs import cases, make_dag, pipeline_dag

ENGINE = settings(deadline=None, max_examples=150)


def assert_identical(found, expected):
    assert found.start_s.tobytes() == expected.start_s.tobytes()
    assert found.finish_s.tobytes() == expected.finish_s.tobytes()


@ENGINE
@given(cases())
def test_sweep_equals_reference(case):
    reference = simulate_reference(case.dag, case.class_seconds, case.draws)
    swept = sweep(case.dag, case.class_seconds, case.draws)
    assert_identical(swept, reference)
    certify(case.dag, case.class_seconds, case.draws, swept)


@ENGINE
@given(cases(), st.integers(1, 4), st.randoms(use_true_random=False))
def test_batch_equals_sweep(case, num_draws, random):
    shape = (num_draws, case.dag.num_draw_rows, 1 if case.draws is None else case.draws.shape[1])
    draws = np.array([random.uniform(0.5, 2) for _ in range(int(np.prod(shape)))]).reshape(shape)
    subset = np.array(random.sample(range(case.dag.num_ops), random.randint(0, case.dag.num_ops)), dtype=np.int32)
    seconds = np.array([random.uniform(0, 1) * case.class_seconds for _ in range(num_draws)])
    batch = sweep_batch(case.dag, seconds, draws, subset, num_threads=2)
    for draw in range(num_draws):
        single = sweep(case.dag, seconds[draw], draws[draw])
        assert batch.makespan_s[draw] == single.makespan_s
        assert batch.start_s[draw].tobytes() == single.start_s[subset].tobytes()
        assert batch.finish_s[draw].tobytes() == single.finish_s[subset].tobytes()


@settings(deadline=None, max_examples=30)
@given(cases(), st.sampled_from([0, 1, 3, 66]), st.randoms(use_true_random=False))
def test_lanes_of_class_tables_equal_a_sweep_of_each(case, lanes, random):
    """Whatever joins lanes of draws, tables never meet."""
    factors = np.array([random.uniform(0, 2) for _ in range(case.dag.num_classes * lanes)])
    tables = case.class_seconds[:, None] * factors.reshape(case.dag.num_classes, lanes)
    found = sweep_tables(case.dag, tables)
    assert found.tolist() == [sweep(case.dag, tables[:, lane]).makespan_s for lane in range(lanes)]


@pytest.mark.parametrize("lanes", [1, 5])
def test_a_pipeline_of_joins(lanes):
    dag = pipeline_dag(build_schedule("dualpipe", 4, 8), ops_per_action=5, is_varied=True)
    seconds = np.array([0.1, 0.2, 0.1, 0.1, 0.25])
    draws = np.random.default_rng(1).uniform(0.9, 1.3, (dag.num_draw_rows, lanes))
    result = bench(dag, seconds, draws)
    assert result["equal"]
    assert result["num_ops"] == dag.num_ops * lanes
    assert float.fromhex(result["makespan_reference"]) == float.fromhex(result["makespan_sweep"])
    assert set(result) == {
        "num_ops", "reference_s", "sweep_s", "ratio_sweep_over_simpy", "makespan_reference", "makespan_sweep", "equal",
    }  # fmt: skip


def test_join_waits_for_the_slowest_lane():
    dag = make_dag([(0, 0, [], 0, False), (0, 1, [0], -1, True)], num_classes=1, num_draw_rows=1)
    for engine in (simulate_reference, sweep):
        timeline = engine(dag, np.array([2.0]), np.array([[1.0, 3.0, 2.0]]))
        assert timeline.start_s.tolist() == [[0, 0, 0], [6, 6, 6]]
        assert timeline.finish_s.tolist() == [[2, 6, 4], [8, 8, 8]]


def test_empty_graph():
    dag = make_dag([], num_classes=1, num_resources=1)
    for engine in (simulate_reference, sweep):
        assert engine(dag, np.array([1.0]), None).makespan_s == 0
    assert sweep_batch(dag, np.array([1.0]), np.ones((2, 0, 3))).makespan_s.tolist() == [0, 0]


@ENGINE
@given(cases(), st.data())
def test_certificate_refuses_one_changed_bit(case, data):
    timeline = sweep(case.dag, case.class_seconds, case.draws)
    if case.dag.num_ops == 0:
        return
    times = {"start_s": timeline.start_s.copy(), "finish_s": timeline.finish_s.copy()}
    changed = times[data.draw(st.sampled_from(sorted(times)))]
    op, lane = (data.draw(st.integers(0, size - 1)) for size in changed.shape)
    changed[op, lane] = data.draw(st.sampled_from([np.nextafter(changed[op, lane], np.inf), np.nan, np.inf]))
    with pytest.raises(InconsistentSimulation, match=r"certificate: (start|finish) of operator"):
        certify(case.dag, case.class_seconds, case.draws, Timeline(**times))


def test_certificate_names_operator_and_lane():
    dag = make_dag([(0, 0, [], -1, False)] * 2, num_classes=1)
    wrong = Timeline(np.array([[0.0], [1.0]]), np.array([[1.0], [2.5]]))
    with pytest.raises(
        InconsistentSimulation, match=r"finish of operator 1, lane 0 is 0x1\.4.*but its start plus its dur"
    ):
        certify(dag, np.array([1.0]), None, wrong)
    with pytest.raises(InconsistentSimulation, match=r"finish_s has shape \(1, 1\), not \(2, 1\)"):
        certify(dag, np.array([1.0]), None, Timeline(wrong.start_s, wrong.finish_s[:1]))


def test_certificate_in_several_pieces(monkeypatch):
    """Law: the size of the pieces has no influence."""
    dag = pipeline_dag(build_schedule("1f1b", 4, 8), ops_per_action=4)
    seconds = np.array([0.1, 0.2, 0.1, 0.1, 0.25])
    timeline = sweep(dag, seconds)
    for size in (1, 7, 100):
        monkeypatch.setattr("simulator.engine.certificate.MAX_GATHERED", size)
        certify(dag, seconds, None, timeline)
    timeline.finish_s[-1] += 1
    with pytest.raises(InconsistentSimulation):
        certify(dag, seconds, None, timeline)


def test_frozen_and_strided_arrays_are_accepted():
    dag = make_dag([(0, 0, [], 0, False), (1, 1, [0], 1, True)], num_classes=2, num_draw_rows=2)
    seconds, draws = np.array([1.0, 9.0, 2.0, 9.0])[::2], np.ones((3, 2)).T
    for array in (seconds, draws, dag.pred, dag.pred_ptr, dag.op_class, dag.draw_row, dag.is_join):
        array.flags.writeable = False
    assert sweep(dag, seconds, draws).makespan_s == 3
    assert sweep_batch(dag, seconds, draws[None]).makespan_s.tolist() == [3]


def test_many_threads_at_once():
    """Law: two callers at once do not disturb each other (a dashboard's sessions)."""
    dag = pipeline_dag(build_schedule("dualpipe", 4, 8), ops_per_action=3, is_varied=True)
    draws = np.random.default_rng(2).uniform(0.5, 2, (4, dag.num_draw_rows, 8))
    seconds = np.array([0.1, 0.2, 0.1, 0.1, 0.25])
    expected = sweep_batch(dag, seconds, draws, num_threads=1).makespan_s.tolist()
    with ThreadPoolExecutor(4) as pool:
        runs = list(pool.map(lambda _: sweep_batch(dag, seconds, draws).makespan_s.tolist(), range(12)))
    assert runs == [expected] * 12


def test_numba_is_imported_only_to_sweep():
    code = "import sys, simulator.engine; sys.exit('numba' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_compiles_in_memory_where_no_cache_can_be_written(monkeypatch):
    from simulator.engine import compiled

    def njit_without_cache(signature, cache=False, nogil=False):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return lambda function: (function, signature, nogil)

    monkeypatch.setattr(compiled.numba, "njit", njit_without_cache)
    assert compiled.compile_loop("float64(float64)", abs) == (abs, "float64(float64)", True)
