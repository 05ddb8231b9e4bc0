"""Laws of grouped GEMMs: uneven experts never cost less, nor a loop of launches than one, nor any than a dense GEMM."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from hwprofiles.kernels.gemm import GROUPED, gemm_constants
from hwprofiles.kernels.gemm_formula import GemmConstants, GemmLimits, GemmSize, gemm_seconds, whole
from hwprofiles.kernels.shape import LOOP, KernelShape
from hwprofiles.kernels.table import kernel_seconds
from tests.hwprofiles.test_kernel_table import GEMM_PARAMETERS, GPU, parameter, row, stack

LIMITS = GemmLimits(1e15, 3e12, 100, 100)
CONSTANTS = GemmConstants(2e-6, 8e-7, 3e10, 9e10, eta=0.85, ecap=0.8, eb=0.7, bm_max=256, bn_max=256, bn_step=32)
SIZES = [(64, 8, 1024, 2048), (1000, 4, 4096, 1536), (300, 32, 2048, 7168), (8192, 2, 7168, 2048)]
"""Rows of a group, groups, n, k."""
EXPERTS = KernelShape("grouped_gemm", "fprop", "fp8-block", m=4096, n=2048, k=7168, groups=8)


def size(rows: int, groups: int, n: int, k: int, variant: str, cv: float = 0.0) -> GemmSize:
    total = rows * groups
    return GemmSize(*((n, k, total) if variant == "wgrad" else (total, n, k)), groups, variant, "bf16", cv)


@pytest.mark.parametrize("variant", ["fprop", "dgrad", "wgrad"])
@pytest.mark.parametrize(("rows", "groups", "n", "k"), SIZES)
def test_uneven_experts_never_cost_less(variant: str, rows: int, groups: int, n: int, k: int) -> None:
    times = [
        gemm_seconds(size(rows, groups, n, k, variant, cv), CONSTANTS, LIMITS) for cv in (0.0, 0.01, 0.1, 0.5, 2.0)
    ]
    assert times == sorted(times)
    assert times[-1] <= 2.0 * times[0], "half a tile an expert at most"


@pytest.mark.parametrize("cv", [0.0, 0.3])
@pytest.mark.parametrize(("rows", "groups", "n", "k"), SIZES)
def test_no_less_than_a_dense_gemm_of_the_same_rows(rows: int, groups: int, n: int, k: int, cv: float) -> None:
    grouped = gemm_seconds(size(rows, groups, n, k, "fprop", cv), CONSTANTS, LIMITS)
    assert grouped >= gemm_seconds(size(rows * groups, 1, n, k, "fprop"), CONSTANTS, LIMITS)


@pytest.mark.parametrize("exact", [0.9, 1.0, 2.75, 4.0, 40.0])
@pytest.mark.parametrize("cv", [0.02, 0.1, 0.3])
def test_whole_pieces_are_those_that_drawn_experts_fill(exact: float, cv: float) -> None:
    """Against the mean of rounded-up normal numbers; where even ones are unlucky, they are the bound."""
    drawn = float(np.ceil(np.random.default_rng(5).normal(exact, cv * exact, 50_000)).mean())
    assert float(whole(np.array(exact), cv)) == pytest.approx(max(drawn, math.ceil(exact)), abs=0.1)
    assert whole(np.array(exact), 0.0) == math.ceil(exact)


def test_a_loop_is_a_dense_gemm_an_expert() -> None:
    """By the constants; by a row of the launch, where the stack has one; and each pays t0 and its own last wave."""
    for parts in ((), (row(KernelShape("gemm", "fprop", "fp8-block", m=512, n=2048, k=7168), 3e-5),)):
        own = stack(*parts, **GEMM_PARAMETERS)
        one = kernel_seconds(replace(EXPERTS, op="gemm", m=512, groups=1), own, GPU, "alone")
        looped = kernel_seconds(replace(EXPERTS, library=LOOP), own, GPU, "alone")
        assert (looped.seconds, looped.low, looped.high) == pytest.approx(
            [8 * value for value in (one.seconds, one.low, one.high)]
        )
        assert looped.basis == one.basis
        assert looped.seconds > kernel_seconds(replace(EXPERTS, library=GROUPED), own, GPU, "alone").seconds
        assert kernel_seconds(EXPERTS, own, GPU, "alone") == kernel_seconds(
            replace(EXPERTS, library=GROUPED), own, GPU, "alone"
        )


def test_a_loop_of_weight_gradients_divides_the_reduced_rows() -> None:
    own = stack(**GEMM_PARAMETERS)
    shape = KernelShape("grouped_gemm", "wgrad", "fp8-block", m=2048, n=7168, k=4096, groups=8)
    one = kernel_seconds(replace(shape, op="gemm", k=512, groups=1), own, GPU, "alone")
    assert kernel_seconds(replace(shape, library=LOOP), own, GPU, "alone").seconds == pytest.approx(8 * one.seconds)


def test_constants_of_grouped_kernels_go_before_those_of_dense_ones() -> None:
    """The pass within the grouped ones first; a loop and a dense GEMM take the dense constants."""
    own = stack(
        **GEMM_PARAMETERS, **{"gemm.fp8-block.grouped.eta": parameter(0.3), "gemm.fp8-block.wgrad.eta": parameter(0.5)},
        **{"gemm.fp8-block.grouped.dgrad.eta": parameter(0.4), "gemm.fp8-block.grouped.residual": parameter(1.0, 0.5, 2.0)},
    )  # fmt: skip
    found = {
        (variant, grouped): gemm_constants(own, "fp8-block", variant, is_grouped=grouped)
        for variant in ("fprop", "dgrad", "wgrad") for grouped in (True, False)
    }  # fmt: skip
    dense = GEMM_PARAMETERS["gemm.fp8-block.eta"].value
    assert {key: each[0].eta for key, each in found.items() if each} == {
        ("fprop", True): 0.3, ("fprop", False): dense, ("dgrad", True): 0.4, ("dgrad", False): dense, ("wgrad", True): 0.3,
        ("wgrad", False): 0.5,
    }  # fmt: skip
    plain = stack(**GEMM_PARAMETERS)
    looped, dense_one = replace(EXPERTS, library=LOOP), replace(EXPERTS, op="gemm", groups=1)
    for shape in (looped, dense_one):
        assert kernel_seconds(shape, own, GPU, "alone").seconds == kernel_seconds(shape, plain, GPU, "alone").seconds
    assert kernel_seconds(EXPERTS, own, GPU, "alone").seconds > kernel_seconds(EXPERTS, plain, GPU, "alone").seconds


def test_uneven_experts_cost_more_beside_a_row_of_even_ones() -> None:
    own = stack(row(EXPERTS, 2e-4), **GEMM_PARAMETERS)
    even = kernel_seconds(EXPERTS, own, GPU, "overlapped")
    uneven = kernel_seconds(replace(EXPERTS, rows_cv=0.4), own, GPU, "overlapped")
    assert (even.seconds, even.basis) == (2e-4, "measured")
    assert 2e-4 < uneven.seconds < 3e-4
    assert uneven.basis == "interpolated"


def test_a_dense_row_corrects_a_grouped_gemm_by_what_it_says_of_its_own_kind() -> None:
    """Its seconds over the dense formula, not over the grouped one, at half of whose rate grouped kernels run here."""
    slow = {"eta": 0.425, "ecap": 0.4, "t_tile_s": 1.6e-6, "st_bytes_per_s": 1.5e10, "l2_bytes_per_s": 4.5e10}
    grouped = {f"gemm.fp8-block.grouped.{name}": parameter(value) for name, value in slow.items()}
    dense = replace(EXPERTS, op="gemm", groups=1, m=512)
    free = stack(**GEMM_PARAMETERS, **grouped)
    measured = row(dense, 1.2 * kernel_seconds(dense, free, GPU, "alone").seconds, "alone")
    asked = replace(EXPERTS, library=GROUPED)
    ratio = (
        kernel_seconds(asked, stack(measured, **GEMM_PARAMETERS, **grouped), GPU, "alone").seconds
        / kernel_seconds(asked, free, GPU, "alone").seconds
    )
    assert 1.05 < ratio <= 1.2
