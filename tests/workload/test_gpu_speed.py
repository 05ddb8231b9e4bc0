"""The slowest of all GPUs of a job is found, whatever share of them is simulated, and who meets runs at the slowest's speed."""

from __future__ import annotations

from math import log1p, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator import portable
from simulator.draws import generator
from simulator.workload.gpu_speed import PURPOSE_SPEED, SpeedGroups, draw_slowness

CV, SEED = 0.011, 3


def every_gpu(ranks: int, gpus: int) -> np.ndarray:
    """(ranks, gpus) slowness of every GPU of a job, in the order of the draw."""
    sigma = sqrt(log1p(CV**2))
    normal = generator(SEED, 0, PURPOSE_SPEED).standard_normal((ranks, gpus))
    return portable.exp(sigma * normal - sigma**2 / 2)


def test_the_slowest_of_512_gpus_is_three_sigma_behind_at_ep_8() -> None:
    """The expected maximum of 512 normal variates is 3.04 standard deviations; of 8, 1.42."""
    groups = SpeedGroups(columns=64, width=8)
    slowest = [draw_slowness(CV, 1, groups, 32, SEED, draw).lanes.max() - 1.0 for draw in range(64)]
    assert float(np.mean(slowest)) == pytest.approx(3.04 * CV, rel=0.05)


@settings(max_examples=40, deadline=None)
@given(
    ranks=st.integers(1, 4), columns=st.integers(1, 9), width=st.integers(1, 6), together=st.sampled_from([1, 2, 4]),
    per_lane=st.sampled_from([1, 2, 4]), simulated=st.integers(1, 9), micro_batches=st.integers(1, 40),
)  # fmt: skip
def test_columns_equal_a_choice_by_hand(
    ranks: int, columns: int, width: int, together: int, per_lane: int, simulated: int, micro_batches: int
) -> None:
    gpus = columns * width * per_lane * together
    groups = SpeedGroups(columns, width, per_lane * together, together, min(simulated, columns))
    found = draw_slowness(CV, ranks, groups, micro_batches, SEED, 0).lanes
    drawn = every_gpu(ranks, gpus).tolist()
    lane_gpus = per_lane * together
    lanes = [[max(row[i : i + lane_gpus]) for i in range(0, gpus, lane_gpus)] for row in drawn]

    def seconds(column: int) -> float:
        stages = [max(row[column * width : (column + 1) * width]) for row in lanes]
        return sum(stages) + (micro_batches - 1) * max(stages)

    kept = sorted(sorted(range(columns), key=lambda c: -seconds(c))[: groups.simulated])
    expected = [[row[column * width + i] for column in kept for i in range(width)] for row in lanes]
    assert found.tolist() == pytest.approx(np.array(expected), rel=1e-12)


def test_a_tensor_parallel_group_wider_than_a_lane_slows_all_its_lanes() -> None:
    """tp 4, ep 8 in lanes of one GPU: lanes 0 to 3 run at one speed, 4 to 7 at another."""
    found = draw_slowness(CV, 1, SpeedGroups(1, width=8, together=4), 1, SEED, 0).lanes[0]
    drawn = every_gpu(1, 8)[0]
    assert found.tolist() == [drawn[:4].max()] * 4 + [drawn[4:].max()] * 4


def test_where_all_columns_are_simulated_every_gpu_keeps_its_speed() -> None:
    assert np.array_equal(draw_slowness(CV, 3, SpeedGroups(8, 2, simulated=8), 5, SEED, 0).lanes, every_gpu(3, 16))


def test_a_quarter_of_a_million_gpus_are_drawn_in_bounded_memory() -> None:
    found = draw_slowness(CV, 16, SpeedGroups(256, width=64), 128, SEED, 0).lanes
    assert found.shape == (16, 64) and found.max() > 1.0 + 4.3 * CV
