"""Norms: the papers' formulas, FP32 arithmetic on BF16 numbers, and what is kept."""

from __future__ import annotations

import pytest
import torch

from hwprofiles.calibration.counting.kept import saved_by
from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.calibration.model import naive
from hwprofiles.calibration.model.norm import LayerNorm, RmsNorm
from hwprofiles.calibration.numerics.recipes import numerics
from tests.hwprofiles.model.close import assert_same, drawn, normal


@pytest.mark.parametrize("kind", [RmsNorm, LayerNorm])
def test_values_and_gradients_are_the_formulas(kind: type[RmsNorm] | type[LayerNorm]) -> None:
    layer = drawn(kind(12, numerics("float64"), 1e-3))
    assert_same(layer, lambda x: naive.norm(layer, x), [normal(2, 5, 12)], layer)


def test_a_part_of_wider_rows_is_normed_as_if_it_stood_alone() -> None:
    layer = drawn(RmsNorm(6, numerics("float64"), 1e-3))
    assert_same(lambda x: layer(x[..., 2:8]), lambda x: naive.norm(layer, x[..., 2:8]), [normal(3, 4, 11)], layer)


def test_bf16_numbers_are_normed_in_fp32() -> None:
    layer = RmsNorm(4096, numerics("bf16", gemms="library"), 1e-6)
    x = (normal(8, 4096).detach() * 50).bfloat16()
    exact = naive.norm(layer, x)
    assert layer(x).dtype is torch.bfloat16
    assert ((layer(x).double() - exact).abs() <= exact.abs() * 2**-8).all(), "more than the result's own rounding"


def test_the_input_and_one_number_a_row_are_kept() -> None:
    layer = RmsNorm(64, numerics("bf16", gemms="library"), 1e-6)
    x = normal(32, 64).detach().bfloat16().requires_grad_()
    with saved_by(layer) as saved:
        held = layer(x)
    assert held.requires_grad
    assert sorted(each.num_bytes for each in saved.kept()) == [4 * 32, 2 * 32 * 64]


def test_another_width_is_named() -> None:
    with pytest.raises(CalibrationError, match=r"x: has shape \(2, 8\); the norm takes \(\.\.\., 6\)"):
        RmsNorm(6, numerics("float32"), 1e-6)(torch.zeros(2, 8))
