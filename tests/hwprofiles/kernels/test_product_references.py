"""The references agree with each other, and with the emulation of the recipe, group by group."""

from __future__ import annotations

import torch

from hwprofiles.calibration.kernels import reference
from hwprofiles.calibration.numerics.blockwise import blockwise_product_reference
from hwprofiles.calibration.numerics.groups import Groups
from hwprofiles.calibration.numerics.quantise import Quantised
from tests.hwprofiles.kernels.operands import blocks, columns, rows

GROUPS = Groups((5, 0, 140, 1))
FP32_ROUNDING = 1e-6


def distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found.double() - expected).norm() / expected.norm())


def test_products_by_groups_are_those_of_each_group() -> None:
    left, right = rows(146, 256), blocks(4, 128, 256)
    found = reference.product(left, right, GROUPS)
    assert distance(found, reference.exact_product(left, right, GROUPS)) < FP32_ROUNDING
    for group, part in enumerate(GROUPS.slices(GROUPS)):
        of_group = Quantised(left.values[part], left.scales[part], (1, 128))
        matrix = Quantised(right.values[group], right.scales[group], (128, 128))
        if len(found[part]):
            assert distance(found[part], blockwise_product_reference(of_group, matrix).double()) < FP32_ROUNDING


def test_weight_gradients_by_groups_are_those_of_each_group() -> None:
    left, right = columns(GROUPS, 48), columns(GROUPS, 32, seed=4)
    found = reference.wgrad(left, right, GROUPS)
    assert distance(found, reference.exact_wgrad(left, right, GROUPS)) < FP32_ROUNDING
    assert not found[1].any() and found[0].any()
    added = torch.full_like(found, 2.0)
    torch.testing.assert_close(reference.wgrad(left, right, GROUPS, added), found + 2)
    ends = torch.tensor(GROUPS.padded(128).counts).cumsum(0).to(torch.int32)
    assert torch.equal(reference.wgrad(left, right, ends), found)
