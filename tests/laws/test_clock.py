"""Laws of a step's clock and of the padded vocabulary."""

from __future__ import annotations

import pytest

from simulator import load_scenario, simulate_step
from simulator.scenario import derived
from tests.laws.runs import changed
from tests.laws.test_replicas import DENSE


def test_hours_of_training_run_slower_than_a_burst_where_only_bursts_were_measured() -> None:
    burst, sustained = (
        simulate_step(load_scenario(changed(DENSE, stack="h800-transfer", device={"clock": clock}))).step.step_s
        for clock in ("burst", "sustained")
    )
    assert burst < sustained


@pytest.mark.parametrize(("vocab", "pad", "padded"), [(1000, 128, 1024), (1024, 128, 1024), (1000, 1, 1000)])
def test_a_vocabulary_is_padded_upwards(vocab: int, pad: int, padded: int) -> None:
    document = changed(DENSE, model={"vocab_size": vocab}, head={"vocab_padding": pad})
    assert derived.padded_model(load_scenario(document)).vocab_size == padded
