"""Multi-head latent attention against its equations, a head at a time."""

from __future__ import annotations

import pytest
import torch

from hwprofiles.calibration.model import config, naive
from hwprofiles.calibration.model.config import Layer, ModelConfig, Rope
from hwprofiles.calibration.model.mla import Mla
from hwprofiles.calibration.numerics.recipes import numerics
from tests.hwprofiles.model.close import assert_same, drawn, normal

SIZES = [config.Mla(3, 10, 8, 6, 4, 5), config.Mla(2, 0, 8, 4, 6, 8)]
STRETCHED = Rope(theta=40.0, factor=4.0, original_len=16, beta_fast=2.0, beta_slow=0.3)


def _mla(sizes: config.Mla, recipe: str, rope: Rope, **options: frozenset[str]) -> Mla:
    model = ModelConfig("m", 16, 32, (Layer(sizes, config.Ffn(8)),), rope=rope)
    return drawn(Mla(sizes, model, numerics(recipe), **options))


def _wide_tables(layer: Mla, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The tables without their rounding to FP32, so that what is left is the layer's own error."""
    dim = layer.sizes.qk_rope_head_dim
    angles = [[at * naive.angle(layer.rope, dim, pair) for pair in range(dim // 2)] for at in range(length)]
    return torch.tensor(angles, dtype=torch.float64).cos(), torch.tensor(angles, dtype=torch.float64).sin()


@pytest.mark.parametrize("rope", [Rope(theta=40.0), STRETCHED])
@pytest.mark.parametrize("sizes", SIZES)
def test_values_and_gradients_are_the_equations(sizes: config.Mla, rope: Rope) -> None:
    layer = _mla(sizes, "float64", rope)
    tables = _wide_tables(layer, 7)
    assert_same(lambda x: layer(x, tables), lambda x: naive.mla(layer, x), [normal(2, 7, 16)], layer)


def test_own_tables_are_these_to_fp32() -> None:
    layer, x = _mla(SIZES[0], "float64", STRETCHED), normal(1, 9, 16)
    torch.testing.assert_close(layer(x), layer(x, _wide_tables(layer, 9)), rtol=1e-5, atol=1e-6)


def test_both_first_projections_are_products_of_one_input() -> None:
    layer = _mla(SIZES[0], "float32", Rope())
    calls: list[int] = []
    linears = layer.numerics.linears

    def noted(x: torch.Tensor, weights: tuple[torch.Tensor, ...], **options: bool) -> tuple[torch.Tensor, ...]:
        calls.append(len(weights))
        return linears(x, weights, **options)

    layer.numerics.linears = noted  # type: ignore[method-assign]
    layer(torch.zeros(1, 4, 16))
    assert calls == [2, 1, 1, 1]


def test_emulated_bf16_stays_near_float64() -> None:
    layer, x = _mla(SIZES[0], "bf16", Rope()), normal(2, 12, 16).detach()
    exact = naive.mla(layer, x).detach()
    assert 1e-4 < float((layer(x.float()).detach().double() - exact).norm() / exact.norm()) < 0.02
