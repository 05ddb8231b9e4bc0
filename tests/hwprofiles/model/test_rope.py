"""Rotary positions and YaRN: the papers' formulas and laws."""

from __future__ import annotations

import math

import pytest
import torch

from hwprofiles.calibration.counting.kept import saved_by
from hwprofiles.calibration.model import naive
from hwprofiles.calibration.model.config import Rope
from hwprofiles.calibration.model.rope import apply, frequencies, softmax_scale, tables
from tests.hwprofiles.model.close import normal

CPU = torch.device("cpu")
STRETCHED = Rope(theta=500.0, factor=8.0, original_len=64, beta_fast=8.0, beta_slow=0.5)


@pytest.mark.parametrize("rope", [Rope(theta=100.0), STRETCHED])
def test_pairs_turn_as_complex_numbers_do(rope: Rope) -> None:
    x = normal(2, 9, 3, 10).detach()
    expected = naive.turned(x, rope, 6)
    torch.testing.assert_close(apply(x, *tables(rope, 6, 9, CPU)), expected, rtol=2e-6, atol=2e-6)


def test_the_numbers_in_front_stand_still_and_lengths_stay() -> None:
    x = normal(1, 7, 2, 10).detach()
    turned = apply(x, *tables(Rope(), 4, 7, CPU))
    assert torch.equal(turned[..., :6], x[..., :6]) and torch.equal(turned[:, 0], x[:, 0])
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1), rtol=1e-6, atol=0)
    assert (turned[:, 1:, :, 6:] != x[:, 1:, :, 6:]).all()


def test_a_product_depends_on_the_distance_alone() -> None:
    q, k = (normal(1, 1, 1, 8, seed=seed).detach().expand(1, 12, 1, 8) for seed in (1, 2))
    q, k = (apply(part, *tables(STRETCHED, 8, 12, CPU))[0, :, 0] for part in (q, k))
    scores = q @ k.T
    for distance in (0, 1, 5):
        values = scores.diagonal(-distance)
        torch.testing.assert_close(values, values[:1].expand_as(values), rtol=1e-5, atol=1e-5)
    assert abs(float(scores[5, 0] - scores[0, 0])) > 1e-3


def test_yarn_leaves_fast_pairs_and_stretches_slow_ones_whole() -> None:
    plain, stretched = frequencies(Rope(theta=STRETCHED.theta), 32), frequencies(STRETCHED, 32)
    ratios = []
    for own, new in zip(plain, stretched, strict=True):
        turns = 64 * own / (2 * math.pi)
        ratios.append(own / new)
        assert new == own if turns >= 8 else new == pytest.approx(own / 8) if turns <= 0.5 else own / 8 < new < own
    assert ratios == sorted(ratios) and {1.0} < set(ratios), "no pair was left alone, or none stretched"
    assert ratios[-1] == pytest.approx(8) and any(1 < ratio < 7.9 for ratio in ratios)


def test_the_temperature_of_forty_times_is_the_published_one() -> None:
    # 0.1 ln 40 + 1 = 1.3689 (arXiv:2309.00071, 3.4), squared, over sqrt(192).
    assert softmax_scale(Rope(factor=40.0), 192) * math.sqrt(192) == pytest.approx(1.36889**2, rel=1e-5)
    assert softmax_scale(Rope(), 192) == pytest.approx(192**-0.5)


def test_the_backward_turns_back_and_keeps_nothing() -> None:
    x = normal(2, 5, 2, 6)
    cos, sin = tables(Rope(theta=50.0), 4, 5, CPU)
    assert torch.autograd.gradcheck(lambda x: apply(x, cos, sin), [x])
    with saved_by(torch.nn.Module()) as saved:
        held = apply(x, cos, sin)
    assert held.requires_grad and not saved.kept()
