"""What is drawn of loads and speeds: means of one, the spread that was asked for, and what stays the same over a step."""

from __future__ import annotations

import numpy as np
import pytest

from simulator.workload.expert_load import LoadModel, draw_loads
from simulator.workload.gpu_speed import draw_slowness
from simulator.workload.routing_model import Spread


@pytest.mark.parametrize("cv", [0.01, 0.3])
def test_gpus_are_as_fast_as_their_mean_on_average(cv: float) -> None:
    drawn = draw_slowness(cv, 256, 512, seed=1, draw=0)
    assert drawn.mean() == pytest.approx(1.0, abs=4 * cv / np.sqrt(drawn.size))
    assert drawn.std() == pytest.approx(cv, rel=0.05)


def test_hot_experts_stay_hot_over_a_step_and_noise_does_not() -> None:
    """By layer: the persistent term is drawn once a unit, the fresh one in every micro-batch."""
    persistent = draw_loads(LoadModel(0.0, 0.3, ranks=8, nodes=2), units=3, micro_batches=5, seed=1, draw=0)[:, :, 0]
    assert np.array_equal(persistent, np.repeat(persistent[:, :1], 5, axis=1))
    assert not np.allclose(persistent[0], persistent[1])
    fresh = draw_loads(LoadModel(0.3, 0.0, ranks=8, nodes=2), units=3, micro_batches=5, seed=1, draw=0)[:, :, 0]
    assert not np.allclose(fresh[0, 0], fresh[0, 1])
    assert fresh.mean(axis=-1) == pytest.approx(np.ones((3, 5)))


def test_the_fullest_node_is_a_mean_over_its_ranks() -> None:
    loads = draw_loads(LoadModel(0.3, 0.2, ranks=8, nodes=2), units=1, micro_batches=4, seed=2, draw=0)
    rank, fullest = loads[:, :, 0], loads[:, :, 2]
    assert (fullest <= rank.max(axis=-1, keepdims=True)).all()
    assert (fullest >= 1.0 - 1e-12).all()


def test_fresh_and_persistent_loads_multiply() -> None:
    """Of one plus their variances: what is left of the spread is the whole one over what stays."""
    whole = Spread(between=0.2, inside=4.0, shares=np.array([[0.5, 1.5], [1.1, 0.9]]))
    left = whole.against(0.5)
    assert (left.between, left.inside) == pytest.approx((0.2 / 1.25, 4.0 / 1.25))
    typical = whole.shares.mean(axis=0)
    assert left.shares - typical == pytest.approx((whole.shares - typical) / np.sqrt(1.25))
    assert whole.variance(sequences=4, seq_len=100) == pytest.approx((0.2 + 4.0 / 100) / 4)
    assert whole.against(0.0).between == whole.between
