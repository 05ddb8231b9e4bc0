"""The recipe fp8-row: a scale a row of each operand, against float64 and against what each product is made of."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hwprofiles.calibration.numerics.comparing import SMALL, Shape, distance, products_of
from hwprofiles.calibration.numerics.fp8 import Fp8
from hwprofiles.calibration.numerics.groups import Groups
from hwprofiles.calibration.numerics.quantise import FP8
from hwprofiles.calibration.numerics.recipes import numerics
from hwprofiles.calibration.numerics.rounded import RoundedBf16, to_bf16
from hwprofiles.calibration.numerics.rowwise import EmulatedRowwise, LibraryRowwise, Rowwise
from tests.hwprofiles.model.fp8_library import stand_in

CPU = torch.device("cpu")
PER_FORMAT = 0.045
"""As of fp8-blockwise; a scale of a whole row leaves somewhat more numbers below the normal range."""


def recipe(products: Rowwise) -> Fp8:
    return Fp8("fp8-row", products, RoundedBf16())


def random(*sizes: int, seed: int = 1) -> Tensor:
    return to_bf16(torch.randn(*sizes, generator=torch.Generator().manual_seed(seed)))


def by_row(x: Tensor) -> Tensor:
    """The numbers that rows of x become, in float64."""
    scales = x.abs().amax(-1, keepdim=True) / 448
    return (x / scales).to(FP8).double() * scales.double()


@pytest.mark.parametrize("groups", [Groups((70,)), Groups((5, 0, 140, 16))])
def test_each_product_has_a_scale_for_each_row_of_its_operands(groups: Groups) -> None:
    products, num_rows, n, k = EmulatedRowwise(), sum(groups.counts), 136, 200
    x, grad, weights = random(num_rows, k), random(num_rows, n, seed=2), random(len(groups.counts), n, k, seed=3)
    weight, operand = products.quantised_weight(weights), products.operand(x)
    inputs = products.columns_of_kept(products.kept(x, operand, groups), k, groups)
    fprop, dgrad = products.fprop(operand, weight, groups), products.dgrad(products.gradient(grad), weight, groups)
    wgrad = products.wgrad(products.columns(grad, groups), inputs, (n, k), groups)
    assert wgrad.dtype is torch.bfloat16
    for idx, part in enumerate(groups.slices(groups)):
        if part.start == part.stop:
            assert not wgrad[idx].any()
            continue
        assert distance(fprop[part], by_row(x[part]) @ by_row(weights[idx]).t()) < 1e-6
        assert distance(dgrad[part], by_row(grad[part]) @ by_row(weights[idx].t()).t()) < 1e-6
        exact = by_row(grad[part].t()) @ by_row(x[part].t()).t()
        assert distance(wgrad[idx], exact) < 2e-3


@pytest.mark.parametrize("shape", [Shape((300,), 200, 192), Shape((64, 0, 33, 200), 128, 256)])
def test_values_and_gradients_are_those_of_float64_within_the_format(shape: Shape) -> None:
    found, exact = products_of(numerics("fp8-row"), shape, CPU), products_of(numerics("float64"), shape, CPU)
    for name, values in found.items():
        assert 0.01 < distance(values, exact[name]) < PER_FORMAT, name


def test_a_row_times_a_power_of_two_scales_its_result_exactly() -> None:
    x, weight = random(6, 128), random(32, 128, seed=2)
    scaled = x.clone()
    scaled[4] *= 2.0**-20
    expected = numerics("fp8-row").linear(x, weight)
    expected[4] *= 2.0**-20
    assert torch.equal(numerics("fp8-row").linear(scaled, weight), expected)


def test_the_input_is_kept_in_fp8_with_a_scale_a_column() -> None:
    kept: list[Tensor] = []
    x, weights = random(130, 256).requires_grad_(), [random(64, 256, seed=seed).requires_grad_() for seed in (2, 3)]

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        numerics("fp8-row").linears(x, weights)
    assert [(tensor.dtype, tuple(tensor.shape)) for tensor in kept] == [(FP8, (144, 256)), (torch.float32, (1, 256))]


def test_zero_rows_and_columns_and_no_rows() -> None:
    x, weight = random(8, 64), random(32, 64, seed=2).requires_grad_()
    x[2], x[:, 5] = 0, 0
    result = numerics("fp8-row").linear(x, weight)
    result.sum().backward()
    assert (
        not result[2].any() and weight.grad is not None and not weight.grad[:, 5].any() and weight.grad.isfinite().all()
    )
    for shape in (Shape((0,), 128, 128), Shape((0, 0), 128, 128)):
        assert not products_of(numerics("fp8-row"), shape, CPU)["wgrad"].any()


def test_a_number_that_is_none_spoils_its_row_and_column() -> None:
    x, weight = random(8, 64), random(32, 64, seed=2).requires_grad_()
    x[2, 5] = float("nan")
    result = numerics("fp8-row").linear(x, weight)
    result.sum().backward()
    assert torch.equal(result.isnan().all(1), torch.arange(8) == 2)
    assert weight.grad is not None and torch.equal(weight.grad.isnan().all(0), torch.arange(64) == 5)


@pytest.mark.parametrize(
    "shape",
    [*SMALL, Shape((3,), 128, 640), Shape((130,), 136, 140), Shape((0, 0, 17), 250, 384), Shape((0,), 128, 128)],
)
def test_operands_lie_as_the_library_wants_them(shape: Shape, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch)
    ours, emulated = (products_of(recipe(products), shape, CPU) for products in (LibraryRowwise(), EmulatedRowwise()))
    for name, values in ours.items():
        assert values.shape == emulated[name].shape and distance(values, emulated[name]) < 2e-3, name
