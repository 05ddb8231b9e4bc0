"""SwiGLU, permuting and their backward beside float64; what they quantise, to the bit. Interpreted where there is no GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.calibration.kernels.products import reason_against_triton
from hwprofiles.calibration.numerics.quantise import TILE, quantise, transposed
from tests.hwprofiles.kernels.test_streams import DEVICE, GROUPS, random, same, sources, spread

pytest.importorskip("triton")

from hwprofiles.calibration.kernels import permuting, swiglu

pytestmark = pytest.mark.skipif(bool(why := reason_against_triton(DEVICE)), reason=f"no kernels here: {why}")
BF16_ROUNDING, FP32_ROUNDING = 2.5e-3, 1e-6


@pytest.fixture(autouse=True)
def poisoned() -> Iterator[None]:
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


def distance(found: Tensor, expected: Tensor) -> float:
    return float((found.double() - expected).norm() / expected.norm())


def product_of(x: Tensor, row_weights: Tensor | None) -> Tensor:
    """In float64."""
    gate, up = x.chunk(2, 1)
    product = functional.silu(gate) * up
    return product if row_weights is None else product * row_weights.unsqueeze(1)


def operands(width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Gate beside up, the product's gradient, and weights of the rows."""
    return random(17, 2 * width), random(17, width, seed=2), random(17, seed=3).float().sigmoid()


@pytest.mark.parametrize("is_weighted", [False, True])
def test_product_in_fp8(is_weighted: bool) -> None:
    x, _, weights = operands(72)
    given = weights if is_weighted else None
    values, scales = swiglu.swiglu_quantise(x, given)
    expected = quantise(product_of(x.double(), given).bfloat16(), (1, TILE))
    assert same(values, expected.values) and same(scales, expected.scales)


@pytest.mark.parametrize("is_weighted", [False, True])
def test_gradient_and_its_two_quantised_forms(is_weighted: bool) -> None:
    x, grad, weights = operands(TILE)
    wide = x.double().requires_grad_(), weights.double().requires_grad_()
    product_of(wide[0], wide[1] if is_weighted else None).backward(grad.double())
    x_grad, weights_grad = swiglu.swiglu_backward(x, grad, weights if is_weighted else None)
    assert distance(x_grad, wide[0].grad) < BF16_ROUNDING
    of_rows, of_columns, again = swiglu.swiglu_backward_quantise(x, grad, sources(), weights if is_weighted else None)
    expected = quantise(x_grad, (1, TILE)), quantise(spread(x_grad), (TILE, 1))
    assert same(of_rows[0], expected[0].values) and same(of_rows[1], expected[0].scales)
    assert same(of_columns[0], transposed(expected[1].values)) and same(of_columns[1], expected[1].scales)
    if is_weighted:
        assert distance(weights_grad, wide[1].grad) < FP32_ROUNDING > distance(again, wide[1].grad)
    else:
        assert weights_grad is again is None


PLACES = torch.tensor([[3, -1, 0], [-1, -1, -1], [1, 4, 2], [5, 6, -1], [-1, 7, 8]], device=DEVICE)
TOKENS = torch.tensor([0, 2, 2, 0, 2, 3, 3, 4, 4], device=DEVICE)
"""Whose each of the nine rows is."""


def test_rows_at_their_places() -> None:
    x = random(5, 200)
    assert torch.equal(permuting.permute(x, PLACES, 9), x[TOKENS])
    expected = quantise(x[TOKENS], (1, TILE))
    values, scales = permuting.permute_quantise(x, PLACES, 9)
    assert same(values, expected.values) and same(scales, expected.scales) and scales.stride() == (1, 12)
    kept = quantise(x, (1, TILE))
    values, scales = permuting.permute_quantised(kept.values, kept.scales, PLACES, 9)
    assert same(values, expected.values) and same(scales, expected.scales) and scales.stride() == (1, 12)


@pytest.mark.parametrize("is_weighted", [False, True])
def test_sums_by_token_and_their_gradients(is_weighted: bool) -> None:
    width = 1030 if is_weighted else 200  # more than a program's columns
    rows, weights, grad = random(9, width), random(5, 3, seed=3).float(), random(5, width, seed=4)
    wide = rows.double().requires_grad_(), weights.double().requires_grad_()
    of_rows = (
        wide[1]
        .new_ones(9)
        .index_put((PLACES[PLACES >= 0],), wide[1][PLACES >= 0] if is_weighted else wide[1].new_ones(()))
    )
    expected = wide[0].new_zeros(5, width).index_add(0, TOKENS, wide[0] * of_rows.unsqueeze(1))
    assert (
        distance(permuting.unpermute(rows, PLACES, weights if is_weighted else None), expected.detach()) < BF16_ROUNDING
    )
    expected.backward(grad.double())
    if is_weighted:
        rows_grad, weights_grad = permuting.unpermute_backward(grad, rows, PLACES, weights)
        assert (
            distance(rows_grad, wide[0].grad) < BF16_ROUNDING and distance(weights_grad, wide[1].grad) < FP32_ROUNDING
        )
    else:
        assert torch.equal(permuting.permute(grad, PLACES, 9).double(), wide[0].grad)


def test_places_and_weights_may_lie_apart() -> None:
    x, rows, weights = random(5, 200), random(9, 200), random(5, 3, seed=3).float()
    places, apart = PLACES.t().contiguous().t(), weights.t().contiguous().t()
    assert not places.is_contiguous()
    assert torch.equal(permuting.permute(x, places, 9), x[TOKENS])
    assert same(permuting.permute_quantise(x, places, 9)[0], quantise(x[TOKENS], (1, TILE)).values)
    assert torch.equal(permuting.unpermute(rows, places, apart), permuting.unpermute(rows, PLACES, weights))
    made = permuting.unpermute_backward(x, rows, places, apart), permuting.unpermute_backward(x, rows, PLACES, weights)
    assert torch.equal(made[0][0], made[1][0]) and torch.equal(made[0][1], made[1][1])
    gates, grad, of_rows = operands(TILE)
    wide = torch.stack((of_rows, -of_rows), 1)[:, 0]
    assert same(swiglu.swiglu_quantise(gates, wide)[0], swiglu.swiglu_quantise(gates, of_rows)[0])
    assert torch.equal(swiglu.swiglu_backward(gates, grad, wide)[0], swiglu.swiglu_backward(gates, grad, of_rows)[0])
    both = [swiglu.swiglu_backward_quantise(gates, grad, sources(), each)[0][0] for each in (wide, of_rows)]
    assert same(*both)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda x: swiglu.swiglu_quantise(x[:, :55]), r"x: gate beside up of 55; a multiple of 2 is wanted"),
        (lambda x: swiglu.swiglu_quantise(x, x[0]), r"row_weights: torch.bfloat16; torch.float32 is wanted\n.*; \(17\) is"),
        (lambda x: swiglu.swiglu_backward(x, x), r"grad: shape \(17, 200\); \(17, 100\) is wanted"),
        (
            lambda x: swiglu.swiglu_backward_quantise(x, x[:, :100], sources()), r"grad: a width of 100; a multiple of 128"
        ),
        (lambda x: permuting.permute(x, PLACES, 9), r"places: shape \(5, 3\); \(17, any\) is wanted"),
        (
            lambda x: permuting.unpermute_backward(x[:5], x[:, :128], PLACES, x[:5, :3].float()),
            r"grad: shape \(5, 200\); \(5, 128\) is wanted",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(call: Callable[[Tensor], object], told: str) -> None:
    with pytest.raises(CalibrationError, match=told):
        call(random(17, 200))
    assert sum(GROUPS.counts) == 17
