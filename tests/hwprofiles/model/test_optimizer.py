"""AdamW: torch's own steps in FP64, master weights, and the norm of all gradients."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hwprofiles.calibration.model.optimizer import AdamW, Settings, clip, gradient_norm
from hwprofiles.calibration.model.transformer import Model
from hwprofiles.calibration.numerics.recipes import numerics
from tests.hwprofiles.model.close import normal
from tests.hwprofiles.model.tiny import deepseek, tokens

SETTINGS = Settings(rate=0.03, beta1=0.8, beta2=0.9, eps=1e-6, decay=0.2)


@pytest.mark.parametrize("is_one_kernel", [False, True])
def test_steps_are_those_of_torch(is_one_kernel: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the form for GPUs too, whose kernel torch has for a CPU as well."""
    if is_one_kernel:
        monkeypatch.setattr(AdamW, "_move", AdamW._move_in_one)
    mine, other = (
        [nn.Parameter(normal(3, 4).detach().clone()), nn.Parameter(normal(5).detach().clone())] for _ in range(2)
    )
    optimizer = AdamW(mine, SETTINGS)
    groups = [{"params": other[:1], "weight_decay": 0.2}, {"params": other[1:], "weight_decay": 0.0}]
    torchs = torch.optim.AdamW(groups, lr=0.03, betas=(0.8, 0.9), eps=1e-6)
    for step in range(5):
        for weights in (mine, other):
            for weight in weights:
                weight.grad = normal(*weight.shape, seed=step).detach()
        optimizer.step()
        torchs.step()
    for mine_now, other_now in zip(mine, other, strict=True):
        torch.testing.assert_close(mine_now, other_now, rtol=1e-12, atol=1e-12)


def test_a_master_weight_gathers_steps_that_bf16_would_lose() -> None:
    weight = nn.Parameter(torch.ones(4, dtype=torch.bfloat16))
    optimizer = AdamW([weight], Settings(rate=1e-4))
    for _ in range(100):
        weight.grad = torch.ones(4, dtype=torch.bfloat16)
        optimizer.step()
    assert weight.dtype is torch.bfloat16 and optimizer.masters[0].dtype is torch.float32
    assert torch.equal(weight.detach(), optimizer.masters[0].bfloat16())
    torch.testing.assert_close(optimizer.masters[0], torch.full((4,), 0.99), rtol=1e-5, atol=0)


def test_moments_are_kept_in_the_format_asked_for() -> None:
    weight = nn.Parameter(torch.ones(4, 4))
    optimizer = AdamW([weight], Settings(moment_dtype=torch.bfloat16))
    weight.grad = torch.full((4, 4), 3.0)
    optimizer.step(rate=0.5)
    assert optimizer.first[0].dtype is optimizer.second[0].dtype is torch.bfloat16
    assert float(optimizer.first[0][0, 0]) == pytest.approx(0.3, rel=2**-8)
    torch.testing.assert_close(weight.detach(), torch.full((4, 4), 0.95 - 0.5), rtol=1e-5, atol=0)


def test_a_parameter_without_a_gradient_stays_and_a_bias_of_the_router_is_none() -> None:
    model = Model(deepseek(0), numerics("float32"))
    bias = model.layers[1].ffn.router.bias
    assert all(weight is not bias for weight in model.parameters())
    bias += 0.25
    optimizer = AdamW(model.parameters())
    before = [weight.detach().clone() for weight in model.parameters()]
    model(tokens(2, 6)).total().backward()
    skipped = model.head.weight
    skipped.grad = None
    optimizer.step()
    moved = [not torch.equal(weight, old) for weight, old in zip(model.parameters(), before, strict=True)]
    assert moved.count(False) == 1 and torch.equal(bias, torch.full_like(bias, 0.25))
    optimizer.zero_grad()
    assert all(weight.grad is None for weight in model.parameters())


def test_gradients_are_scaled_to_the_limit_and_small_ones_left_alone() -> None:
    weights = [
        nn.Parameter(torch.zeros(2)),
        nn.Parameter(torch.zeros(2, dtype=torch.bfloat16)),
        nn.Parameter(torch.zeros(1)),
    ]
    weights[0].grad, weights[1].grad = torch.tensor([2.0, 4.0]), torch.tensor([5.0, 6.0], dtype=torch.bfloat16)
    assert float(gradient_norm(weights)) == pytest.approx(9.0)
    assert float(clip(weights, 18.0)) == pytest.approx(9.0) and float(gradient_norm(weights)) == pytest.approx(9.0)
    assert float(clip(weights, 4.5)) == pytest.approx(9.0)
    assert weights[0].grad.tolist() == [1.0, 2.0] and weights[1].grad.tolist() == [2.5, 3.0]
    assert float(clip(weights, 4.5, norm=torch.tensor(9.0))) == 9.0 and weights[0].grad.tolist() == [0.5, 1.0]
    assert float(gradient_norm([nn.Parameter(torch.zeros(1))])) == 0.0
