"""Grouped-query attention with all that models add to it, against its equations."""

from __future__ import annotations

import pytest
import torch

from hwprofiles.calibration.counting.kept import saved_by
from hwprofiles.calibration.model import config, naive, rope
from hwprofiles.calibration.model.config import Gqa as Sizes
from hwprofiles.calibration.model.config import Layer, ModelConfig, Rope
from hwprofiles.calibration.model.gqa import Gqa
from hwprofiles.calibration.numerics.recipes import numerics
from tests.hwprofiles.model.close import assert_same, drawn, normal

STRETCHED = Rope(theta=40.0, factor=4.0, original_len=16, beta_fast=2.0, beta_slow=0.3)
SIZES = [
    Sizes(4, 2, 6),
    Sizes(4, 4, 6, qk_norm=True),
    Sizes(6, 2, 4, bias=True, sinks=True, window=3, rope_scale=1.3),
    Sizes(4, 1, 6, qk_norm=True, rope=False, window=4),
]


def _gqa(sizes: Sizes, recipe: str, gemms: str = "auto") -> Gqa:
    model = ModelConfig("m", 16, 32, (Layer(sizes, config.Ffn(8)),), rope=STRETCHED)
    return drawn(Gqa(sizes, model, numerics(recipe, gemms=gemms)))  # type: ignore[arg-type]


@pytest.mark.parametrize("sizes", SIZES)
def test_values_and_gradients_are_the_equations(sizes: Sizes) -> None:
    layer = _gqa(sizes, "float64")
    dim = sizes.head_dim
    angles = [[at * naive.angle(STRETCHED, dim, pair) for pair in range(dim // 2)] for at in range(7)]
    table = torch.tensor(angles, dtype=torch.float64)
    tables = table.cos(), table.sin()
    assert_same(lambda x: layer(x, tables), lambda x: naive.gqa(layer, x), [normal(2, 7, 16)], layer)


@pytest.mark.parametrize("sizes", SIZES)
def test_what_is_kept_holds_no_second_copy(sizes: Sizes) -> None:
    """q, k, v, the output and its log-sum; before norms on heads q and k once more; the input of the projections."""
    layer, x = _gqa(sizes, "bf16", "library"), normal(2, 16, 16).detach().bfloat16().requires_grad_()
    rope.tables.cache_clear()
    with saved_by(layer) as saved:
        held = layer(x)
    assert held.requires_grad
    tokens, width = 2 * 16, sizes.head_dim
    q, kv = sizes.num_heads * width, sizes.num_kv_heads * width
    numbers = 16 + 2 * q + 2 * kv + (q + kv if sizes.qk_norm else 0)
    rows = sizes.num_heads + (sizes.num_heads + sizes.num_kv_heads if sizes.qk_norm else 0)
    assert sum(each.num_bytes for each in saved.kept()) == 2 * tokens * numbers + 4 * tokens * rows
