"""Law: the compiled sweep keeps its speed beside the reference and beside itself; ratios taken in one run, by hand."""

import statistics
import time

import numpy as np
import pytest

from simulator.engine import bench, certify, sweep, sweep_batch
from simulator.schedule import build_schedule
from tests.engine.graphs import KINDS, pipeline_dag

pytestmark = pytest.mark.benchmark_ratio

SECONDS = np.linspace(1e-3, 2e-3, len(KINDS))


@pytest.fixture(scope="module")
def dag():
    """DualPipe with 16 ranks and 120 micro-batches, 72 operators an action: about 193,000."""
    return pipeline_dag(build_schedule("dualpipe", 16, 120), ops_per_action=72, is_varied=True)


def median_s(run):
    run()
    times_s = []
    for _ in range(5):
        began = time.perf_counter()
        run()
        times_s.append(time.perf_counter() - began)
    return statistics.median(times_s)


def test_sweep_over_simpy(dag):
    result = bench(dag, SECONDS, np.ones((dag.num_draw_rows, 1)))
    print(result)
    assert result["equal"]
    assert result["ratio_sweep_over_simpy"] > 300


def test_64_lanes_are_vectorised(dag):
    """A loop over lanes that is not vectorised costs 64 single lanes and more; one with a view or a call for each row, 25."""
    draws = np.random.default_rng(0).uniform(0.9, 1.3, (4, dag.num_draw_rows, 64))
    single_s = median_s(lambda: sweep(dag, SECONDS, np.ascontiguousarray(draws[0, :, :1])))
    batch_s = median_s(lambda: sweep_batch(dag, SECONDS, draws, num_threads=1)) / len(draws)
    print(f"single lane {single_s * 1e3:.2f} ms, 64 lanes {batch_s * 1e3:.2f} ms a draw")
    assert batch_s < 20 * single_s


def test_certificate_costs_less_than_the_reference(dag):
    draws = np.ones((dag.num_draw_rows, 1))
    timeline = sweep(dag, SECONDS, draws)
    sweep_s = median_s(lambda: sweep(dag, SECONDS, draws))
    certify_s = median_s(lambda: certify(dag, SECONDS, draws, timeline))
    print(f"sweep {sweep_s * 1e3:.2f} ms, certificate {certify_s * 1e3:.2f} ms")
    assert certify_s < 60 * sweep_s
