"""Triton's products, interpreted where there is no GPU, against the plain ones: groups of any size, poisoned results."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor

from hwprofiles.calibration.kernels import products, reference
from hwprofiles.calibration.kernels.sms import at_most_sms
from hwprofiles.calibration.numerics.groups import Groups
from hwprofiles.calibration.numerics.quantise import transposed
from tests.hwprofiles.kernels.operands import blocks, columns, rows

pytest.importorskip("triton")

from hwprofiles.calibration.kernels import triton_gemm, triton_wgrad
from hwprofiles.calibration.kernels.triton_gemm import Tuned

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
pytestmark = pytest.mark.skipif(
    bool(why := products.reason_against_triton(DEVICE)), reason=f"Triton runs no products here: {why}"
)
SMALL = Tuned(rows=16, columns=64, warps=4)
"""The interpreter multiplies in FP16 without a library: a test's time is its multiplications, tiles' overhang with them."""
FEW = settings(max_examples=3, deadline=None, phases=(Phase.generate,))
"""A failing example is not made smaller: the interpreter takes a third of a second for each."""
FP32_ROUNDING, BF16_ROUNDING = 1e-5, 4e-3


def distance(found: Tensor, expected: Tensor) -> float:
    return float((found.double() - expected).norm() / expected.norm()) if expected.any() else float(found.norm())


def ends(*given_ends: int) -> Tensor:
    return torch.tensor(given_ends, dtype=torch.int32, device=DEVICE)


@FEW
@given(st.lists(st.sampled_from((0, 1, 16, 17, 20)), min_size=2, max_size=4).filter(any))
def test_rows_of_any_groups_meet_their_own_matrix(counts: list[int]) -> None:
    groups = Groups(tuple(counts))
    left, right = rows(sum(counts), 256), blocks(len(counts), 128, 256)
    out = torch.full((sum(counts), 128), float("nan"), device=DEVICE)
    of_groups = ends(*torch.tensor(counts).cumsum(0).tolist())
    triton_gemm.product(left, right, of_groups, out, 3, SMALL)
    assert distance(out, reference.exact_product(left, right, groups)) < FP32_ROUNDING


@pytest.mark.parametrize("tuned", [replace(SMALL, rows_together=1), replace(SMALL, columns=128, rows_together=2)])
def test_every_tile_of_a_dense_product_is_made_once(tuned: Tuned) -> None:
    """Rows are of no whole tile."""
    left, right = rows(51, 128), blocks(1, 256, 128)
    out = torch.full((51, 256), float("nan"), dtype=torch.bfloat16, device=DEVICE)
    triton_gemm.product(left, right, ends(51), out, 2, tuned)
    assert distance(out, reference.product(left, right).double()) < BF16_ROUNDING


def test_rows_behind_the_last_end_stay_and_wrong_ends_write_nothing_else() -> None:
    left, right = rows(30, 128), blocks(3, 128, 128)
    out = torch.full((30, 128), 7.0, device=DEVICE)
    triton_gemm.product(left, right, ends(5, 5, 14), out, 2, SMALL)
    assert (out[14:] == 7).all()
    assert distance(out[:14], reference.exact_product(left, right, Groups((5, 0, 25)))[:14]) < FP32_ROUNDING
    whole = torch.full((32, 128), 7.0, device=DEVICE)
    triton_gemm.product(left, right, ends(5, 3, 900), whole[1:31], 2, SMALL)
    assert distance(whole[1:31], reference.exact_product(left, right, Groups((5, 0, 25)))) < FP32_ROUNDING
    assert (whole[::31] == 7).all()


@FEW
@given(st.lists(st.sampled_from((0, 1, 128, 200)), min_size=1, max_size=3).filter(any), st.booleans())
def test_weight_gradients_of_any_groups(counts: list[int], accumulate: bool) -> None:
    groups = Groups(tuple(counts))
    grads, inputs = columns(groups, 32), columns(groups, 80, seed=4)
    out = torch.full((len(counts), 32, 80), 3.0 if accumulate else float("nan"), device=DEVICE)
    of_groups = ends(*torch.tensor(groups.padded(128).counts).cumsum(0).tolist())
    triton_wgrad.wgrad(grads, inputs, of_groups, out, accumulate, 2, SMALL)
    added = torch.full_like(out, 3.0) if accumulate else None
    assert distance(out, reference.exact_wgrad(grads, inputs, groups, added)) < FP32_ROUNDING


@pytest.mark.parametrize("accumulate", [False, True])
def test_weight_gradients_of_groups_that_end_within_a_tile_are_nan(accumulate: bool) -> None:
    sides, out = columns(Groups((384,)), 16), torch.ones(4, 16, 16, device=DEVICE)
    triton_wgrad.wgrad(sides, sides, ends(128, 200, 256, 900), out, accumulate, 2, SMALL)
    assert [bool(each.isnan().all()) for each in out] == [False, True, True, False] and not out[::3].isnan().any()


def test_no_token_is_summed_twice_where_ends_decrease() -> None:
    sides, out = columns(Groups((384,)), 16), torch.zeros(4, 16, 16, device=DEVICE)
    triton_wgrad.wgrad(sides, sides, ends(256, 128, 200, 384), out, False, 2, SMALL)
    assert distance(out, reference.exact_wgrad(sides, sides, ends(256, 256, 256, 384))) < FP32_ROUNDING


def test_the_public_functions_run_them_on_fewer_sms_too() -> None:
    groups = Groups((9, 0, 3))
    left, right = rows(12, 128), blocks(3, 128, 128)
    exact = reference.exact_product(left, right, groups)
    with at_most_sms(1):
        assert distance(products.fprop(left, right, groups, kernel="triton"), exact) < BF16_ROUNDING
    turned = replace(right, values=transposed(right.values), scales=right.scales.transpose(1, 2).contiguous())
    found = products.dgrad(left, turned, groups, out_dtype=torch.float32, kernel="triton")
    assert distance(found, reference.exact_product(left, turned, groups)) < FP32_ROUNDING
    grads, inputs = columns(groups, 16), columns(groups, 16, seed=4)
    assert distance(products.wgrad(grads, inputs, groups), reference.exact_wgrad(grads, inputs, groups)) < FP32_ROUNDING


def test_of_no_rows_nothing_is_launched_and_gradients_are_zeros() -> None:
    assert products.fprop(rows(0, 128), blocks(2, 128, 128), Groups((0, 0))).shape == (0, 128)
    nothing = Groups((0, 0))
    out = torch.full((2, 16, 16), float("nan"), device=DEVICE)
    assert not products.wgrad(columns(nothing, 16), columns(nothing, 16), nothing, out=out).any()
    out.fill_(5)
    added = products.wgrad(columns(nothing, 16), columns(nothing, 16), nothing, out=out, accumulate=True)
    assert (added == 5).all()
