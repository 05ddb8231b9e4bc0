"""The recipe fp8-blockwise: against the literal sum of blocks, against float64, and the laws of tiles."""

from __future__ import annotations

import copy
import gc
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.utils.checkpoint
from torch import Tensor

from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.calibration.model.optimizer import AdamW
from hwprofiles.calibration.numerics.blockwise import (
    BLOCKS,
    ROWS,
    Blockwise,
    EmulatedBlockwise,
    blockwise_product_reference,
)
from hwprofiles.calibration.numerics.comparing import Shape, distance, products_of
from hwprofiles.calibration.numerics.fp8 import Fp8
from hwprofiles.calibration.numerics.groups import Groups
from hwprofiles.calibration.numerics.quantise import quantise
from hwprofiles.calibration.numerics.recipes import numerics
from hwprofiles.calibration.numerics.rounded import RoundedBf16, to_bf16

CPU = torch.device("cpu")
SHAPES = [(Groups((70,)), 200, 192), (Groups((5, 0, 140)), 128, 300)]
PER_FORMAT = 0.04
"""Norm of a product's error over its norm: each factor is off by up to 2^-4 of itself, 2.6 % in the mean square."""


def random(*sizes: int, seed: int = 1) -> Tensor:
    return to_bf16(torch.randn(*sizes, generator=torch.Generator().manual_seed(seed)))


def recipe(products: Blockwise[Any, Any] | None = None) -> Fp8:
    return Fp8("fp8-blockwise", products or EmulatedBlockwise(), RoundedBf16())


def by_expert(groups: Groups, product: Callable[[int, slice], Tensor]) -> list[Tensor]:
    return [product(idx, part) for idx, part in enumerate(groups.slices(groups))]


# The products


@pytest.mark.parametrize("right_tile", [ROWS, BLOCKS])
def test_the_reference_is_the_product_of_what_the_operands_stand_for(right_tile: tuple[int, int]) -> None:
    left, right = quantise(random(20, 300), ROWS), quantise(random(150, 300, seed=2), right_tile)
    expected = left.numbers.double() @ right.numbers.double().t()
    assert distance(blockwise_product_reference(left, right), expected) < 1e-6


@pytest.mark.parametrize("power_of_two", [False, True])
@pytest.mark.parametrize(("groups", "n", "k"), SHAPES)
def test_the_fast_products_are_the_literal_ones(groups: Groups, n: int, k: int, power_of_two: bool) -> None:
    """fprop, dgrad and wgrad: sums of blocks of 128, scaled and added in FP32."""
    products, num_rows = EmulatedBlockwise(power_of_two=power_of_two), sum(groups.counts)
    x, grad, weights = random(num_rows, k), random(num_rows, n, seed=2), random(len(groups.counts), n, k, seed=3)
    weight, operand = products.quantised_weight(weights), products.operand(x)

    def quantised(values: Tensor, tile: tuple[int, int]) -> Any:
        return quantise(values, tile, power_of_two=power_of_two)

    def fprop(idx: int, part: slice) -> Tensor:
        return blockwise_product_reference(quantised(x[part], ROWS), quantised(weights[idx], BLOCKS))[:, :n]

    def dgrad(idx: int, part: slice) -> Tensor:
        turned = quantised(weights[idx].t().contiguous(), BLOCKS)
        return blockwise_product_reference(quantised(grad[part], ROWS), turned)[:, :k]

    def wgrad(idx: int, part: slice) -> Tensor:
        if part.start == part.stop:
            return torch.zeros(n, k)
        kept = quantised(x[part], ROWS).numbers[:, :k]
        left, right = (quantised(values.t().contiguous(), ROWS) for values in (grad[part], kept))
        return blockwise_product_reference(left, right)

    inputs = products.columns_of_kept(products.kept(x, operand, groups), k, groups)
    made = products.wgrad(products.columns(grad, groups), inputs, (n, k), groups)
    assert made.dtype is torch.float32
    assert distance(made, torch.stack(by_expert(groups, wgrad))) < 1e-6
    assert distance(products.fprop(operand, weight, groups), torch.cat(by_expert(groups, fprop))) < 1e-6
    assert distance(products.dgrad(products.gradient(grad), weight, groups), torch.cat(by_expert(groups, dgrad))) < 1e-6


@pytest.mark.parametrize("shape", [Shape((300,), 200, 192), Shape((64, 0, 33, 200), 128, 256)])
@pytest.mark.parametrize("power_of_two", [False, True])
def test_values_and_gradients_are_those_of_float64_within_the_format(shape: Shape, power_of_two: bool) -> None:
    found = products_of(recipe(EmulatedBlockwise(power_of_two=power_of_two)), shape, CPU)
    exact = products_of(numerics("float64"), shape, CPU)
    for name, values in found.items():
        bound = PER_FORMAT * (1.3 if name == "wgrad" else 1)  # whose input is rounded twice
        assert 0.01 < distance(values, exact[name]) < bound, name


def test_values_and_input_gradients_are_bf16_and_weight_gradients_are_not() -> None:
    found = products_of(recipe(), Shape((300,), 200, 192), CPU)
    assert torch.equal(found["fprop"], to_bf16(found["fprop"])) and torch.equal(found["dgrad"], to_bf16(found["dgrad"]))
    assert not torch.equal(found["wgrad"], to_bf16(found["wgrad"]))


def test_experts_gradients_are_those_of_each_alone() -> None:
    formats, counts = recipe(), (5, 0, 140)
    rows, weights, grad = (
        random(145, 192).requires_grad_(),
        random(3, 128, 192).requires_grad_(),
        random(145, 128, seed=4),
    )
    formats.grouped_linear(rows, weights, torch.tensor(counts)).backward(grad)
    assert rows.grad is not None and weights.grad is not None and not weights.grad[1].any()
    for expert, part in ((0, slice(0, 5)), (2, slice(5, 145))):
        alone, weight = rows[part].detach().requires_grad_(), weights[expert].detach().requires_grad_()
        formats.linear(alone, weight).backward(grad[part])
        torch.testing.assert_close(alone.grad, rows.grad[part], rtol=1e-6, atol=0)
        torch.testing.assert_close(weight.grad, weights.grad[expert], rtol=1e-6, atol=1e-6)


def test_without_rows_there_is_nothing_and_no_gradient() -> None:
    for shape in (Shape((0,), 128, 128), Shape((0, 0), 128, 128)):
        found = products_of(recipe(), shape, CPU)
        assert found["fprop"].shape == (0, 128) and not found["wgrad"].any()


def test_leading_dimensions_are_rows() -> None:
    x, weight = random(3, 5, 128), random(64, 128, seed=2)
    assert torch.equal(recipe().linear(x, weight), recipe().linear(x.view(15, 128), weight).view(3, 5, 64))


# What is kept, and how often weights are quantised


def test_the_input_is_kept_once_in_fp8_for_all_its_products() -> None:
    kept: list[Tensor] = []
    x, weights = random(130, 256).requires_grad_(), [random(64, 256, seed=seed).requires_grad_() for seed in (2, 3, 4)]

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        results = recipe().linears(x, weights)
    assert [(tensor.dtype, tuple(tensor.shape)) for tensor in kept] == [
        (torch.float8_e4m3fn, (130, 256)), (torch.float32, (130, 2)),
    ]  # fmt: skip
    sum(result.sum() for result in results).backward()  # type: ignore[union-attr]
    assert all(weight.grad is not None for weight in weights)


def test_several_products_gradients_add_up_in_bf16() -> None:
    x, weights = random(32, 128).requires_grad_(), [random(64, 128, seed=seed) for seed in (2, 3)]
    grads = [random(32, 64, seed=seed) for seed in (5, 6)]
    alone = []
    for weight, grad in zip(weights, grads, strict=True):
        alone += torch.autograd.grad(recipe().linear(x, weight), x, grad)
    (together,) = torch.autograd.grad(recipe().linears(x, weights), x, grads)
    assert torch.equal(together, to_bf16(alone[0] + alone[1]))


def test_gradients_are_rounded_to_bf16_before_they_are_quantised() -> None:
    x, weight = random(32, 128).requires_grad_(), random(64, 128, seed=2).requires_grad_()
    grad = torch.randn(32, 64, generator=torch.Generator().manual_seed(5))
    exact, rounded = (torch.autograd.grad(recipe().linear(x, weight), (x, weight), g) for g in (grad, to_bf16(grad)))
    assert all(map(torch.equal, exact, rounded))


def test_a_result_that_nobody_uses_has_no_gradient() -> None:
    x, weights = random(32, 128).requires_grad_(), [random(64, 128, seed=seed).requires_grad_() for seed in (2, 3)]
    recipe().linears(x, weights)[1].sum().backward()
    assert weights[0].grad is None and weights[1].grad is not None and x.grad is not None


def test_weights_are_quantised_once_a_version(monkeypatch: pytest.MonkeyPatch) -> None:
    formats, x, weight = recipe(), random(8, 128), random(64, 128, seed=2).requires_grad_()
    made: list[Tensor] = []
    whole = EmulatedBlockwise.quantised_weight

    def counted(self: EmulatedBlockwise, values: Tensor) -> Any:
        made.append(values)
        return whole(self, values)

    monkeypatch.setattr(EmulatedBlockwise, "quantised_weight", counted)
    before = formats.linear(x, weight)
    before.sum().backward()
    formats.linear(x, weight).sum().backward()
    assert len(made) == 1
    with torch.no_grad():
        weight.mul_(2)
    assert torch.equal(formats.linear(x, weight), 2 * before) and len(made) == 2
    weight.data = random(64, 128, seed=3)
    assert torch.equal(formats.linear(x, weight), formats.linear(x, random(64, 128, seed=3)))


def fused_step_of_ours(weight: torch.nn.Parameter) -> None:
    optimizer = AdamW([weight])
    optimizer._move = optimizer._move_in_one  # type: ignore[method-assign]  # as on a GPU
    optimizer.step(rate=0.5)


def two_swaps(weight: torch.nn.Parameter) -> None:
    """The second may get the memory of what is gone by then."""
    for seed in range(2, 22):
        weight.data = random(64, 128, seed=seed)


CHANGES: dict[str, Callable[[torch.nn.Parameter], Any]] = {
    "ours in one kernel": fused_step_of_ours,
    **{
        f"{kind.__name__}, {form}": lambda weight, kind=kind, form=form: kind([weight], lr=0.5, **{form: True}).step()
        for kind in (torch.optim.AdamW, torch.optim.SGD)
        for form in ("fused", "foreach")
    },
    "data": two_swaps,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_weights_are_quantised_again_after_every_kind_of_step(change: Callable[[torch.nn.Parameter], Any]) -> None:
    """Fused kernels change weights without saying so."""
    formats, x, weight = recipe(), random(8, 128), torch.nn.Parameter(random(64, 128, seed=2))
    before = formats.linear(x, weight)
    before.sum().backward()
    change(weight)
    after = formats.linear(x, weight)
    assert torch.equal(after, recipe().linear(x, weight)) and not torch.equal(after, before)


def test_a_copy_of_a_recipe_has_none_of_its_weights() -> None:
    formats, x = recipe(), random(8, 128)
    model = torch.nn.Linear(128, 64, bias=False)
    expected = formats.linear(x, model.weight)
    for copied in (copy.deepcopy(formats), pickle.loads(pickle.dumps(formats))):
        assert len(copied._weights) == 0 and torch.equal(copied.linear(x, copy.deepcopy(model).weight), expected)


def test_weights_without_versions_are_quantised_each_time() -> None:
    formats, x = recipe(), random(8, 128)
    with torch.inference_mode():
        weight = random(64, 128, seed=2)
        before = formats.linear(x, weight)
        weight.mul_(2)
        assert torch.equal(formats.linear(x, weight), 2 * before)


def test_recompute_gives_the_same_gradients() -> None:
    formats, x, weight = recipe(), random(40, 128).requires_grad_(), random(64, 128, seed=2).requires_grad_()
    plain = torch.autograd.grad(formats.linear(x, weight).square().sum(), (x, weight))
    again = torch.utils.checkpoint.checkpoint(formats.linear, x, weight, use_reentrant=False)
    for found, expected in zip(torch.autograd.grad(again.square().sum(), (x, weight)), plain, strict=True):
        assert torch.equal(found, expected)


def test_what_was_made_of_a_weight_goes_with_it() -> None:
    formats = recipe()
    formats.linear(random(8, 128), random(64, 128))
    gc.collect()
    assert len(formats._weights) == 0


# Laws of tiles


def test_a_tile_times_a_power_of_two_scales_its_part_exactly() -> None:
    """Only one tile of the row is not zero, so that the row's result scales."""
    x, weight = torch.zeros(4, 384), random(64, 384, seed=2)
    x[:, 128:256] = random(4, 128)
    scaled = x.clone()
    scaled[1, 128:256] *= 2.0**7
    expected = recipe().linear(x, weight)
    expected[1] *= 2.0**7
    assert torch.equal(recipe().linear(scaled, weight), expected)


def test_an_outlier_spoils_its_own_tile_alone() -> None:
    x, weight = random(16, 512), random(128, 512, seed=2)
    weight[:, 0] = 0  # the outlier itself counts for nothing; what it does to its neighbours' scale is left
    with_outlier = x.clone()
    with_outlier[3, 0] = 1e8
    before, after = recipe().linear(x, weight), recipe().linear(with_outlier, weight)
    others = torch.arange(16) != 3
    assert torch.equal(before[others], after[others])
    without_tile = x.clone()
    without_tile[3, :128] = 0  # its neighbours are too small for the scale that it sets
    assert torch.equal(after[3], recipe().linear(without_tile, weight)[3])
    by_row = numerics("fp8-row").linear(with_outlier, weight)
    assert not by_row[3].any()


def test_rows_permute_and_zero_rows_give_zero() -> None:
    x, weight = random(40, 256), random(128, 256, seed=2)
    x[7] = 0
    order = torch.randperm(40, generator=torch.Generator().manual_seed(3))
    result = recipe().linear(x, weight)
    torch.testing.assert_close(recipe().linear(x[order], weight), result[order], rtol=2.0**-8, atol=1e-6)
    assert not result[7].any()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_number_that_is_none_comes_out(bad: float) -> None:
    x, weight = random(8, 256), random(128, 256, seed=2).requires_grad_()
    x[3, 5] = bad
    result = recipe().linear(x, weight)
    assert not result[3].isfinite().any() and result[torch.arange(8) != 3].isfinite().all()
    result.sum().backward()
    assert (
        weight.grad is not None and not weight.grad[:, :128].isfinite().any() and weight.grad[:, 128:].isfinite().all()
    )


# Bad input, and what the device has


def test_sizes_that_padding_would_hide_are_refused() -> None:
    with pytest.raises(CalibrationError, match=r"weights: \(64, 200\) do not fit rows of 192"):
        recipe().linear(random(8, 192), random(64, 200))
    with pytest.raises(CalibrationError, match=r"counts: \(3, 4\) do not fit 8 rows"):
        recipe().grouped_linear(random(8, 128), random(2, 64, 128), torch.tensor([3, 4]))
    with pytest.raises(CalibrationError, match=r"counts: \(-1, 9\) do not fit 8 rows"):
        recipe().grouped_linear(random(8, 128), random(2, 64, 128), torch.tensor([-1, 9]))


def test_what_the_recipe_leaves_alone_is_bf16() -> None:
    formats = numerics("fp8-blockwise")
    assert isinstance(formats.plain, RoundedBf16) and formats.plain.plain is formats.plain
    assert formats.dtype is torch.float32 and formats.param_dtype is torch.float32
    x = torch.randn(4, 4)
    assert torch.equal(formats.rounded(x), to_bf16(x))
