"""Law of replicas without experts: the slowest of all holds the others, of however many the slowest 64 are simulated."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from simulator.workload.gpu_speed import SpeedGroups, draw_slowness
from tests.laws.runs import changed, simulate
from tests.laws.scenarios import Document, dense_model

CV, DRAWS = 0.05, 4

DENSE: Document = {
    "model": dense_model(2, 512, 1024, heads=4, kv_heads=4, vocab=1000, head_dim=64),
    "cluster": {"node": "h800-x8", "num_gpus": 8, "fabric": "ib-400g-rail"},
    "parallel": {"pp": 1, "ep": 1, "schedule": "gpipe"},
    "training": {"seq_len": 512, "global_batch_size": 8},
    "device": {"speed_cv": CV},
    "mechanisms": {"host_stream": False},
    "draws": DRAWS,
}


@cache
def added(num_gpus: int) -> float:
    """Seconds that unequal GPUs add to the step."""
    document = changed(DENSE, cluster={"num_gpus": num_gpus}, training={"global_batch_size": 32 * num_gpus})
    unequal, equal = (simulate(changed(document, device={"speed_cv": cv})).step_s for cv in (CV, 0.0))
    return unequal - equal


@cache
def slowest(replicas: int) -> float:
    """By how much the slowest of so many GPUs is slower than the mean, over the same draws."""
    groups = SpeedGroups(replicas, width=1, simulated=replicas)
    return float(np.mean([draw_slowness(CV, 1, groups, 32, 0, draw).lanes.max() for draw in range(DRAWS)])) - 1.0


@pytest.mark.parametrize("num_gpus", [2, 16, 64, 256])
def test_the_slowest_replica_holds_the_others(num_gpus: int) -> None:
    """One stage of many micro-batches: the slowest GPU's lag; the optimizer is a small share. Without a host, for which GPUs
    with so little to do would wait, whatever their speed.
    """
    assert added(num_gpus) / added(8) == pytest.approx(slowest(num_gpus) / slowest(8), rel=2e-3)
    others = {1, 2, 16, 32, 64, 128, 256} - {num_gpus}
    assert all(slowest(each) != pytest.approx(slowest(num_gpus), rel=5e-3) for each in others)
