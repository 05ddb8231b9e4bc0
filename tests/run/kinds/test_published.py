"""Post-training that was published, from its settings: nothing is fitted to its hours."""

from __future__ import annotations

import pytest

from simulator.results.interval import Estimate
from tests.run.kinds.test_kinds import model, on


def test_r1_zero() -> None:
    """arXiv:2501.12948 v2, B.4: 10,400 steps of 32 x 16 answers, 16 a rollout, at most 32,768 tokens (65,536 behind step
    8,200), 512 H800: 101K GPU-hours. Its answers' mean is read off a figure; the step is the planner's on 128 sequences of
    32,768.
    """
    rl = {"max_response_tokens": 32_768.0, "model_reward_share": 0.0, "response_tokens": 7000.0}
    r1 = {"prompts_per_step": 32, "samples_per_prompt": 16, "steps_per_rollout": 16}
    found = model(on(512, 128, seq_len=32_768), kind="rl", steps=10_400, rl={**rl, **r1})
    step = Estimate(value=31.2, low=28.0, high=36.0)
    total = found.total(step)
    assert total.value == pytest.approx(101_000, rel=0.2)
    assert 0.85 * total.low < 101_000 < total.high
    lines = {part.name: part.gpu_hours.value for part in found.parts(step)}
    assert lines["rollout decode"] + lines["update"] > 0.8 * total.value


def test_deepseek_v3() -> None:
    """arXiv:2412.19437, table 1: 5K GPU-hours for fine-tuning (1.5 M instances, 2 epochs) and reinforcement learning together;
    the latter on R1's 512 GPUs, the step the planner's on 176 sequences of 4,096.
    """
    sft = model(kind="sft", samples=1.5e6, epochs=2.0).total(Estimate.exact(17.9))
    rl = model(on(512, 176), kind="rl").total(Estimate.exact(1.91))
    assert sft.value + rl.value == pytest.approx(5000, rel=0.3)
    assert sft.low + rl.low < 5000 < sft.high + rl.high
