"""Details of a ramp: steps of whole micro-batches over all pipelines, and the largest error of the interpolation."""

from __future__ import annotations

import pytest

from simulator.run.batch_ramp import BatchSize, interpolation_error_frac
from simulator.run.phases import plan_phase
from tests.run.test_training_run import RAMP, make_scenario


@pytest.mark.parametrize("micro_batch_size", [1, 2, 4])
def test_a_ramp_steps_by_the_sequences_of_one_micro_batch_everywhere(micro_batch_size: int) -> None:
    """2,048 GPUs in 16 stages: 128 pipelines."""
    training = {"seq_len": 4096, "global_batch_size": 15360, "micro_batch_size": micro_batch_size}
    scenario = make_scenario([{"name": "pretrain", "tokens": 1e12, "batch_ramp": RAMP}], training=training)
    sizes = [size.global_batch_size for size in plan_phase(scenario, scenario.phases[0]).sizes]
    assert all(size % (128 * micro_batch_size) == 0 for size in sizes)
    assert (sizes[0], sizes[-1]) == (3072, 15360)


def test_the_largest_error_of_the_inner_sizes_is_told() -> None:
    """On the line 1 s a sequence two inner sizes are 10 % and 20 % off: without each, its neighbours meet in the middle."""
    sizes = [BatchSize(count, "gpipe") for count in range(1, 8)]
    simulated = {sizes[0]: 1.0, sizes[2]: 3.3, sizes[4]: 4.0, sizes[6]: 7.0}
    found = interpolation_error_frac(sizes, simulated)
    first, second = abs((1.0 + 4.0) / 2 - 3.3) / 3.3, abs((3.3 + 7.0) / 2 - 4.0) / 4.0
    assert found == pytest.approx(max(first, second))
    assert first != pytest.approx(second)
