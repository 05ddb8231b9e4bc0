"""The formats that need no scales: what is rounded, and what is not."""

from __future__ import annotations

import pytest
import torch

from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.calibration.numerics.numerics import Plain, looped_linear
from hwprofiles.calibration.numerics.recipes import RECIPES, numerics
from hwprofiles.calibration.numerics.rounded import RoundedBf16, to_bf16


def test_an_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(CalibrationError, match=r"recipe: 'bf61' is unknown; allowed .*bf16"):
        numerics("bf61")


def test_rounded_bf16_is_native_bf16_up_to_the_order_of_sums() -> None:
    seed = torch.Generator().manual_seed(1)
    x = to_bf16(torch.randn(64, 96, generator=seed)).requires_grad_()
    weight = to_bf16(torch.randn(48, 96, generator=seed)).requires_grad_()
    grad = to_bf16(torch.randn(64, 48, generator=seed))
    rounded = RoundedBf16().linear(x, weight)
    rounded.backward(grad)
    native_x, native_weight = (t.detach().bfloat16().requires_grad_() for t in (x, weight))
    native = Plain("bf16", torch.bfloat16).linear(native_x, native_weight)
    native.backward(grad.bfloat16())
    assert torch.equal(rounded, to_bf16(rounded)) and x.grad is not None and torch.equal(x.grad, to_bf16(x.grad))
    for ours, theirs in ((rounded, native), (x.grad, native_x.grad), (weight.grad, native_weight.grad)):
        assert (ours.detach() - theirs.detach().float()).norm() < 2e-3 * ours.detach().norm()


def test_native_formats_are_given_in_themselves() -> None:
    x = torch.randn(4, 4, dtype=torch.float64)
    for dtype in (torch.bfloat16, torch.float32):
        assert torch.equal(Plain("plain", dtype).rounded(x), x.to(dtype))


def test_a_weights_gradient_is_not_rounded() -> None:
    weight = torch.randn(8, 8).requires_grad_()
    RoundedBf16().linear(torch.randn(512, 8), weight).sum().backward()
    assert weight.grad is not None and not torch.equal(weight.grad, to_bf16(weight.grad))


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_a_grouped_product_is_one_product_an_expert(recipe: str) -> None:
    seed = torch.Generator().manual_seed(2)
    formats = numerics(recipe)
    counts = torch.tensor([3, 0, 5, 1])
    rows = torch.randn(9, 128, generator=seed).to(formats.dtype)
    weights = torch.randn(4, 128, 128, generator=seed).to(formats.param_dtype)
    alone = [
        formats.linear(rows[:3], weights[0]),
        formats.linear(rows[3:8], weights[2]),
        formats.linear(rows[8:], weights[3]),
    ]
    assert torch.equal(formats.grouped_linear(rows, weights, counts), torch.cat(alone))


def test_the_plain_grouped_product_against_float64() -> None:
    rows, weights = torch.randn(6, 4, dtype=torch.float64), torch.randn(2, 3, 4, dtype=torch.float64)
    result = looped_linear(rows, weights, torch.tensor([2, 4]))
    for row, (expert, value) in enumerate(zip([0, 0, 1, 1, 1, 1], result, strict=True)):
        torch.testing.assert_close(value, weights[expert] @ rows[row])
