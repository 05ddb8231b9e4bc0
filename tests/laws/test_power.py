"""Laws of a step's power, and of the padded vocabulary."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import pytest

from simulator import load_scenario, simulate_step
from simulator.errors import InputError
from simulator.results.step_result import StepTimes
from simulator.scenario import derived
from tests.laws.runs import changed
from tests.laws.scenarios import dense_model
from tests.laws.test_replicas import DENSE

BUSY: Mapping[str, Any] = {
    "model": dense_model(8, 8192, 28672, heads=64, kv_heads=8, vocab=32_000, head_dim=128),
    "cluster": {"node": "h100-x8", "num_gpus": 8, "fabric": "ib-400g-rail"},
    "parallel": {"pp": 4, "schedule": "1f1b"},
    "training": {"seq_len": 8192, "global_batch_size": 128},
    "device": {"speed_cv": 0.0},
    "draws": 1,
}
"""Large GEMMs, few waits: a step at its limit."""


@cache
def times(**device: Any) -> StepTimes:
    return simulate_step(load_scenario(changed(BUSY, device=device))).step


def test_hours_of_training_run_slower_than_a_burst() -> None:
    burst, sustained = times(clock="burst"), times()
    assert burst.power is not None
    assert sustained.power is not None
    assert burst.step_s < sustained.step_s
    assert (burst.power.limited, sustained.power.limited) == (False, True)
    assert max(rank.mean_w for rank in burst.power.by_rank) > 700.0
    assert max(rank.mean_w for rank in sustained.power.by_rank) == pytest.approx(700.0, rel=1e-3)
    (binding,) = [entry for entry in sustained.binding if entry.what == "power_limit"]
    assert binding.seconds == pytest.approx(sustained.step_s - burst.step_s, rel=1e-3)
    assert sustained.interval.high - sustained.step_s > burst.interval.high - burst.step_s


def test_a_lower_cap_is_never_faster() -> None:
    caps = (250.0, 350.0, 500.0, 600.0, 699.0, 700.0)
    found = [times(power_cap_w=cap) for cap in caps]
    seconds = [each.step_s for each in found]
    assert seconds == sorted(seconds, reverse=True)
    assert seconds[0] > 1.3 * seconds[-1]
    assert found[-1] == times()
    for cap, each in zip(caps, found, strict=True):
        assert each.power is not None
        assert each.power.limit_w == cap
        assert max(rank.mean_w for rank in each.power.by_rank) <= cap * (1 + 1e-3)
        assert each.power.kwh_per_step == pytest.approx(8 * each.power.mean_w * each.step_s / 3.6e6)
    energies = [each.power.kwh_per_step for each in found if each.power]
    assert energies[1] < energies[-1], "a slower chip takes less energy, until waiting costs more"


def test_the_answer_is_the_same_again() -> None:
    again = simulate_step(load_scenario(changed(BUSY, device={"power_cap_w": 500.0}))).step
    assert again == times(power_cap_w=500.0)


def test_a_rank_that_waits_more_runs_faster() -> None:
    """The head's rank has more to do than the others."""
    power = times(power_cap_w=600.0).power
    assert power is not None
    assert power.by_rank[-1].speed < min(rank.speed for rank in power.by_rank[:-1])


def test_a_step_that_memory_binds_loses_little() -> None:
    """Short sequences of a narrow model: few FLOP a byte."""
    document = changed(DENSE, cluster={"node": "h100-x8"}, device={"speed_cv": 0.0}, draws=1)
    free, capped = (
        simulate_step(load_scenario(changed(document, device={"power_cap_w": cap}))).step.step_s
        for cap in (None, 400.0)
    )
    assert free <= capped < 1.02 * free


def test_equal_chips_have_equal_watts() -> None:
    h100, h800 = (
        simulate_step(
            load_scenario(
                changed(BUSY, cluster={"node": node, "fabric": "ib-400g-rail"}, parallel={"pp": 1}, stack=stack)
            )
        ).step.power
        for node, stack in (("h100-x8", "h100-transfer"), ("h800-x8", "h800-transfer"))
    )
    assert h100 is not None
    assert h800 is not None
    assert (h100.limit_w, h100.limited) == (h800.limit_w, h800.limited)
    assert h100.speed == pytest.approx(h800.speed, rel=0.01)


@pytest.mark.parametrize(
    ("cap", "said"),
    [
        (800.0, "above the limit of h100, 700 W; leave it out, or write at most 700"),
        (100.0, "draws 129 W while it waits"),
        (128.0, "draws 129 W while it waits"),
    ],
)
def test_an_impossible_cap_is_refused(cap: float, said: str) -> None:
    with pytest.raises(InputError, match=f"device.power_cap_w: {cap:g} W.*{said}"):
        load_scenario(changed(BUSY, device={"power_cap_w": cap}))


def test_a_cap_of_a_burst_is_refused() -> None:
    """It would be left out without a word."""
    with pytest.raises(InputError, match=r"device\.power_cap_w: 500 W says nothing of device\.clock: burst"):
        load_scenario(changed(BUSY, device={"power_cap_w": 500.0, "clock": "burst"}))


@pytest.mark.parametrize(("vocab", "pad", "padded"), [(1000, 128, 1024), (1024, 128, 1024), (1000, 1, 1000)])
def test_a_vocabulary_is_padded_upwards(vocab: int, pad: int, padded: int) -> None:
    document = changed(DENSE, model={"vocab_size": vocab}, head={"vocab_padding": pad})
    assert derived.padded_model(load_scenario(document)).vocab_size == padded
