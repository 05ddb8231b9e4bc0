"""Feed-forward networks against their equations."""

from __future__ import annotations

import pytest

from hwprofiles.calibration.counting.kept import saved_by
from hwprofiles.calibration.model import config, naive
from hwprofiles.calibration.model.config import Activation
from hwprofiles.calibration.model.ffn import Ffn
from hwprofiles.calibration.numerics.recipes import numerics
from tests.hwprofiles.model.close import assert_same, drawn, normal


@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("activation", ["swiglu", "geglu", "gelu", "relu2"])
def test_values_and_gradients_are_the_equations(activation: Activation, has_bias: bool) -> None:
    layer = drawn(Ffn(config.Ffn(7, activation, has_bias), 6, numerics("float64")))
    assert_same(layer, lambda x: naive.ffn(layer, x), [normal(2, 5, 6)], layer)


@pytest.mark.parametrize("activation", ["swiglu", "relu2"])
def test_input_of_the_network_and_of_the_activation_and_the_product_are_kept(activation: Activation) -> None:
    sizes = config.Ffn(48, activation)
    layer = Ffn(sizes, 32, numerics("bf16", gemms="library"))
    x = normal(2, 8, 32).detach().bfloat16().requires_grad_()
    with saved_by(layer) as saved:
        held = layer(x)
    assert held.requires_grad
    expected = [2 * 16 * width for width in (32, 48 * sizes.num_up, 48)]
    assert sorted(each.num_bytes for each in saved.kept()) == sorted(expected)
