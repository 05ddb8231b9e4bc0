"""Seconds of kernels reckoned by hand from the formulas that the modules state, and what makes two calls the same."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from hwprofiles.kernels.gemm import gemm_constants
from hwprofiles.kernels.gemm_formula import GemmConstants, GemmLimits, GemmSize, gemm_seconds
from hwprofiles.kernels.parameters import peak_flop_per_s
from hwprofiles.kernels.shape import KERNELS, PEAK_OF_DTYPE, KernelShape
from hwprofiles.kernels.table import kernel_seconds
from hwprofiles.stack_records import Assumption
from tests.hwprofiles.test_kernel_table import ATTENTION, GEMM, GEMM_PARAMETERS, GPU, NORM, parameter, row, stack

GQA = replace(ATTENTION, kv_heads=8)


@pytest.mark.parametrize(
    "change",
    [{"op": "attention_bwd"}, {"dtype": "fp16"}, {"batch": 2}, {"seq": 8192}, {"heads": 64}, {"kv_heads": 16},
     {"head_dim_qk": 128}, {"head_dim_v": 64}, {"causal": False}],
)  # fmt: skip
def test_attention_of_another_size_mask_or_format_is_another_call(change: dict[str, Any]) -> None:
    assert replace(GQA, **change).key != GQA.key
    assert replace(ATTENTION, kv_heads=0).key == ATTENTION.key, "as many as query heads, unless stated"


@pytest.mark.parametrize(
    "change",
    [{"variant": "dgrad"}, {"dtype": "bf16"}, {"m": 1}, {"n": 1}, {"k": 1}, {"op": "grouped_gemm", "groups": 4}],
)
def test_a_gemm_of_another_size_pass_or_format_is_another_call(change: dict[str, Any]) -> None:
    assert replace(GEMM, **change).key != GEMM.key
    assert replace(GEMM, op="grouped_gemm").key == GEMM.key, "one group is no group"


def test_flop_of_an_attention_core_and_of_a_gemm() -> None:
    """Forward q k and p v; backward q k again, dp and dv as wide as the values, dq and dk as the keys; half under the mask."""
    pairs = 128 * 4096**2 / 2
    assert ATTENTION.flop_of_sizes == pairs * 2 * (192 + 128)
    assert replace(ATTENTION, op="attention_bwd").flop_of_sizes == pairs * 2 * (192 + 128 + 128 + 192 + 192)
    assert replace(ATTENTION, batch=3, causal=False).flop_of_sizes == 3 * 2 * ATTENTION.flop_of_sizes
    assert (GEMM.flop_of_sizes, NORM.flop_of_sizes) == (2 * 4096 * 7168 * 2048, 0)


def test_rows_that_inform_each_other() -> None:
    """Forward and input gradient, grouped and dense; a weight gradient and another format are other kernels."""
    alike = [replace(GEMM, variant="dgrad"), replace(GEMM, op="grouped_gemm", groups=4), replace(GEMM, m=1)]
    apart = [replace(GEMM, variant="wgrad"), replace(GEMM, dtype="bf16")]
    assert {shape.group_key for shape in alike} == {GEMM.group_key}
    assert GEMM.group_key not in {shape.group_key for shape in apart}
    assert ATTENTION.group_key == GQA.group_key != replace(GQA, op="attention_bwd").group_key


def test_formats_run_on_the_tensor_cores_of_their_width() -> None:
    """FP16 is as fast as BF16; FP32 runs as TF32; 8 and 4 bits whatever their scales."""
    widths = {"bf16": "bf16", "fp16": "bf16", "fp32": "tf32", "tf32": "tf32"}
    widths |= dict.fromkeys(("fp8-block", "fp8-row", "fp8-tensor", "mxfp8", "fp8"), "fp8")
    assert dict(PEAK_OF_DTYPE) == {**widths, **dict.fromkeys(("nvfp4", "mxfp4", "fp4"), "fp4")}
    assert peak_flop_per_s(GPU, "fp32") == GPU.peak_flop_per_s["bf16"], "where the datasheet has no TF32"
    assert (KERNELS["grouped_gemm"].category, KERNELS["gemm"].category) == ("expert_gemm", "gemm")


LIMITS = GemmLimits(1e15, 3e12, 100, 100)
CONSTANTS = GemmConstants(2e-6, 8e-7, 3e10, 9e10, eta=0.85, ecap=0.8, eb=0.7, bm_max=256, bn_max=256, bn_step=16)


def by_hand(size: GemmSize, c: GemmConstants, limits: GemmLimits) -> float:
    """The formula at the head of gemm.py, tile by tile."""
    m, n, k = size.m, size.n, size.k
    if size.variant == "wgrad":
        k = k // size.groups
    else:
        m = m // size.groups
    operand = {"fp8-block": 1.0, "bf16": 2.0, "nvfp4": 0.5 + 1 / 16, "mxfp8": 1.0 + 1 / 32}[size.dtype]
    stored, moved = (4, 8) if size.variant == "wgrad" else (2, 2)
    compute = math.inf
    for bm in [b for b in (64, 128, 256, 512) if b <= c.bm_max]:
        for bn in [b for b in range(c.bn_step, c.bn_max + 1, c.bn_step) if b >= 16]:
            tiles = size.groups * -(-m // bm) * -(-n // bn)
            multiply = 2 * bm * bn * 128 / (c.eta * limits.peak_flop_per_s / limits.num_sms)
            step = max(multiply, (bm + bn) * 128 * operand / c.l2_bytes_per_s)
            tile = -(-k // 128) * step + c.t_tile_s + bm * bn * stored / c.st_bytes_per_s
            compute = min(compute, -(-tiles // limits.free_sms) * tile)
    memory = size.groups * ((m * k + n * k) * operand + m * n * moved) / (c.eb * limits.hbm_bytes_per_s)
    power = 2 * size.m * size.n * size.k / (c.ecap * limits.peak_flop_per_s)
    return c.t0_s + float((compute**c.p + memory**c.p + power**c.p) ** (1 / c.p))


@pytest.mark.parametrize("variant", ["fprop", "wgrad"])
@pytest.mark.parametrize("dtype", ["bf16", "fp8-block", "mxfp8", "nvfp4"])
@pytest.mark.parametrize("shape", [(4096, 7168, 2048, 1), (64, 512, 7168, 1), (48, 96, 200, 1), (8192, 512, 4096, 4)])
@pytest.mark.parametrize(
    ("change", "limits"),
    [
        ({}, {}), ({}, {"free_sms": 80}), ({"ecap": 0.1}, {}), ({"eb": 0.01}, {}), ({"l2_bytes_per_s": 1e10}, {}),
        ({"st_bytes_per_s": 1e9}, {}), ({"t_tile_s": 1e-4}, {}), ({"bm_max": 64, "bn_max": 64, "bn_step": 32}, {}),
        ({"bn_max": 64, "bn_step": 8}, {}),
    ],
)  # fmt: skip
def test_a_gemm_is_its_formula(
    variant: str, dtype: str, shape: tuple[int, int, int, int], change: dict[str, Any], limits: dict[str, int]
) -> None:
    """Each term made the slowest in turn."""
    m, n, k, groups = shape
    sizes = (n, k, m) if variant == "wgrad" else (m, n, k)
    size = GemmSize(*sizes, groups, variant, dtype)
    constants, machine = replace(CONSTANTS, **change), replace(LIMITS, **limits)
    assert gemm_seconds(size, constants, machine) == pytest.approx(by_hand(size, constants, machine), rel=1e-9)


def test_a_stack_that_says_no_sharpness_has_the_eighth_power() -> None:
    """Three equal limits: 3^(1/8) times one of them."""
    assert GemmConstants(0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0).p == 8.0


def test_constants_of_a_pass_go_before_those_of_its_format() -> None:
    own = {"gemm.fp8-block.wgrad.eta": parameter(0.5), "gemm.fp8-block.wgrad.residual": parameter(1.0, 0.8, 1.3)}
    for variant, eta, low in (("wgrad", 0.5, 0.8), ("fprop", 0.85, 0.9)):
        found = gemm_constants(stack(**GEMM_PARAMETERS, **own), "fp8-block", variant)
        assert found is not None and (found[0].eta, found[1].low) == (eta, low)


def fitted(shape: KernelShape) -> float:
    """What the constants say, alone."""
    return kernel_seconds(shape, stack(**GEMM_PARAMETERS), GPU, "alone").seconds


LARGER = {"m": 16 * 4096, "n": 7168 // 4}
"""Four doublings of the rows and two halvings of the columns: √20 away, and no row of the same weight."""


@pytest.mark.parametrize(
    ("grown", "square"), [({"n": 4 * 7168}, 4), ({"n": 16 * 7168}, 16), ({"n": 64 * 7168}, 36), (LARGER, 20)]
)
def test_a_row_counts_by_its_distance_against_the_constants(grown: dict[str, int], square: int) -> None:
    """The weight of a row falls with the fourth power; four doublings away it is as good as the constants."""
    asked = replace(GEMM, **grown)
    cost = kernel_seconds(asked, stack(row(GEMM, 4 * fitted(GEMM), "alone"), **GEMM_PARAMETERS), GPU, "alone")
    weight = square**-2 / (square**-2 + 4**-4)
    assert cost.seconds == pytest.approx(fitted(asked) * 4**weight, rel=1e-3)
    if square != 16:
        assert (cost.source == "a bench") == (square < 16)


def test_the_range_grows_from_the_row_s_to_the_residual() -> None:
    """Two doublings away and outside: (2 + 1) / (2 + 1 + 1), half as much again, of the residual of 0.9 to 1.1."""
    asked = replace(GEMM, n=4 * 7168)
    cost = kernel_seconds(asked, stack(row(GEMM, fitted(GEMM), "alone"), **GEMM_PARAMETERS), GPU, "alone")
    weight, share = 4**-2 / (4**-2 + 4**-4), 3 / 4 * 1.5
    assert cost.basis == "extrapolated"
    assert cost.low / cost.seconds == pytest.approx(0.9**weight * 0.9**share, rel=1e-3)
    assert cost.high / cost.seconds == pytest.approx(1.2**weight * 1.1**share, rel=1e-3)


@pytest.mark.parametrize(
    ("change", "basis"),
    [({"n": 2 * 7168}, "interpolated"), ({"n": 3 * 7168}, "extrapolated"), ({"n": 2 * 7168, "k": 3 * 2048}, "extrapolated"),
     ({"n": 7168 // 3, "k": 2 * 2048}, "extrapolated"), ({"n": 7168 // 2, "m": 2048}, "interpolated")],
)  # fmt: skip
def test_inside_is_within_a_factor_2_in_every_dimension(change: dict[str, int], basis: str) -> None:
    table = stack(row(GEMM, fitted(GEMM), "alone"), **GEMM_PARAMETERS)
    assert kernel_seconds(replace(GEMM, **change), table, GPU, "alone").basis == basis


def test_a_row_rules_its_own_place() -> None:
    """Asked 3 % from one row and a quarter from another: the nearer one's correction, to a few thousandths; its source too."""
    near, far = row(GEMM, fitted(GEMM), "alone"), replace(GEMM, n=9216)
    other = replace(row(far, 2 * fitted(far), "alone"), source="another bench")
    asked = replace(GEMM, n=7392)
    for rows in ((near, other), (other, near)):
        cost = kernel_seconds(asked, stack(*rows, **GEMM_PARAMETERS), GPU, "alone")
        assert cost.seconds == pytest.approx(fitted(asked), rel=0.01)
        assert cost.source == "a bench"


@pytest.mark.parametrize("sms", [0, 50])
def test_constants_beside_communication_are_slower_by_the_ratio(sms: int) -> None:
    """A far row of 50 SMs decides nothing: the constants of the whole chip, over the ratio of 0.9."""
    tiny = KernelShape("gemm", "fprop", "fp8-block", 128, 64, 64)
    table = stack(row(tiny, fitted(tiny) / 0.9, "overlapped", sms=sms), **GEMM_PARAMETERS)
    assert kernel_seconds(GEMM, table, GPU, "overlapped").seconds == pytest.approx(fitted(GEMM) / 0.9, rel=0.02)


def test_a_forward_row_is_nearer_to_a_forward_call() -> None:
    """Half a doubling between the passes: of rows of both at equal sizes the own pass's weighs more."""
    forward = row(replace(GEMM, n=8192), fitted(replace(GEMM, n=8192)), "alone")
    gradient = row(replace(GEMM, n=8192, variant="dgrad"), 2 * fitted(replace(GEMM, n=8192)), "alone")
    for variant, factor in (("fprop", 1.0), ("dgrad", 2.0)):
        asked = replace(GEMM, variant=variant)
        cost = kernel_seconds(asked, stack(forward, gradient, **GEMM_PARAMETERS), GPU, "alone")
        assert cost.seconds == pytest.approx(factor * fitted(asked), rel=0.2)


def test_the_dimensions_of_a_weight_gradient_may_be_swapped() -> None:
    wgrad = KernelShape("gemm", "wgrad", "fp8-block", 7168, 2048, 4096)
    table = stack(row(wgrad, 4 * fitted(wgrad), "alone"), **GEMM_PARAMETERS)
    swapped = replace(wgrad, m=2048, n=7168)
    assert kernel_seconds(swapped, table, GPU, "alone").seconds == pytest.approx(4 * fitted(swapped), rel=1e-3)


WGRAD = KernelShape("gemm", "wgrad", "fp8-block", 7168, 2048, 4096)


def test_between_two_rows_the_range_grows_with_the_distance_from_the_nearer() -> None:
    """One doubling from each: half of the residual of 0.9 to 1.1 on top of the row's own 0.9 to 1.2."""
    rows = [row(replace(WGRAD, k=k), fitted(replace(WGRAD, k=k)), "alone") for k in (2048, 8192)]
    cost = kernel_seconds(WGRAD, stack(*rows, **GEMM_PARAMETERS), GPU, "alone")
    assert cost.low / cost.seconds == pytest.approx(0.9 * 0.9**0.5)
    assert cost.high / cost.seconds == pytest.approx(1.2 * 1.1**0.5)


def test_between_two_rows_the_correction_goes_from_one_to_the_other() -> None:
    rows = [row(replace(WGRAD, k=k), f * fitted(replace(WGRAD, k=k)), "alone") for k, f in ((2048, 1.0), (32768, 1.5))]
    asked = replace(WGRAD, k=4096)
    cost = kernel_seconds(asked, stack(*rows, **GEMM_PARAMETERS), GPU, "alone")
    assert cost.seconds == pytest.approx(1.5**0.25 * fitted(asked))


@pytest.mark.parametrize(
    ("k", "basis"), [(300, "extrapolated"), (600, "interpolated"), (7000, "interpolated"), (9000, "extrapolated")]
)
def test_tokens_beyond_twice_the_last_row_are_extrapolated(k: int, basis: str) -> None:
    rows = [row(replace(WGRAD, k=rows), fitted(replace(WGRAD, k=rows)), "alone") for rows in (1024, 4096)]
    assert kernel_seconds(replace(WGRAD, k=k), stack(*rows, **GEMM_PARAMETERS), GPU, "alone").basis == basis


def test_rows_a_fifth_apart_are_two_points_and_2_percent_apart_one() -> None:
    """A faster row of 2 % more tokens is noise: both give their mean; one of 20 % more is a slope."""
    a, b, near = (replace(WGRAD, k=k) for k in (4000, 4800, 4080))
    slope = stack(row(a, fitted(a), "alone"), row(b, 1.5 * fitted(b), "alone"), **GEMM_PARAMETERS)
    just_above = replace(WGRAD, k=4010)
    assert kernel_seconds(just_above, slope, GPU, "alone").seconds == pytest.approx(fitted(just_above), rel=0.03)
    noise = stack(row(a, fitted(a), "alone"), row(near, 1.21 * fitted(near), "alone"), **GEMM_PARAMETERS)
    assert kernel_seconds(just_above, noise, GPU, "alone").seconds == pytest.approx(1.1 * fitted(just_above), rel=0.01)


def test_an_attention_row_serves_calls_of_its_flop() -> None:
    """4 % off by a slice is the call; 10 % is another one, less work for less time."""
    table = stack(row(ATTENTION, 1e-3))
    for share, basis in ((0.96, "measured"), (0.9, "interpolated")):
        sliced = replace(ATTENTION, flop=share * ATTENTION.attention_flop)
        assert kernel_seconds(sliced, table, GPU, "overlapped").basis == basis


ATTENTION_PARAMETERS = {
    f"attention.bf16.fwd.{name}": parameter(value, low, high)
    for name, value, low, high in (
        ("t0_s", 1e-5, 1e-5, 1e-5), ("c_tokens", 512.0, 512.0, 512.0), ("rate_share", 0.5, 0.4, 0.6),
        ("residual", 1.0, 0.9, 1.1),
    )
}  # fmt: skip


def attention_by_hand(shape: KernelShape, flop: float = 0.0, share: float = 0.5) -> float:
    """Blocks of 128 on 100 SMs. A window's queries have fewer keys, a block the edges of both ends and 128 more; without one
    the longest block's three tenths are the tail.
    """
    pair = shape.attention_flop / (shape.batch * shape.heads * shape.seq**2 * (0.5 if shape.causal else 1.0))
    waves = shape.batch * shape.heads * -(-shape.seq // 128) / 100
    tail, keys = 0.3 * (shape.seq + 128), shape.seq / 2 + 256
    if not shape.causal:
        keys = shape.seq + 128
    if flop:
        keys = flop / shape.attention_flop * shape.seq / 2 + 2 * 128 + 128
    if flop or not shape.causal:
        tail = 0.3 * keys * (math.ceil(waves) - waves)
    return 1e-5 + max(
        waves * keys + tail, shape.seq + 128 if shape.causal and not flop else keys
    ) * 128 * pair * 100 / (share * 1e15)


def test_attention_is_its_formula_with_the_head_size_s_own_constants() -> None:
    table = stack(**ATTENTION_PARAMETERS, **{"attention.bf16.fwd.d192.rate_share": parameter(0.25)})
    other = replace(ATTENTION, head_dim_qk=128)
    assert kernel_seconds(ATTENTION, table, GPU, "alone").seconds == pytest.approx(
        attention_by_hand(ATTENTION, share=0.25)
    )
    assert kernel_seconds(other, table, GPU, "alone").seconds == pytest.approx(attention_by_hand(other))
    window = replace(other, flop=2e11)
    assert kernel_seconds(window, table, GPU, "alone").seconds == pytest.approx(attention_by_hand(window, 2e11))


@pytest.mark.parametrize(
    "change", [{"causal": False}, {"heads": 8, "kv_heads": 8}, {"head_dim_v": 512}, {"head_dim_qk": 48}]
)
def test_an_attention_row_of_another_kind_loses_to_one_of_the_own(change: dict[str, Any]) -> None:
    """Rows at twice the sequence: one otherwise the same call, one of another mask, heads or widths at twice the time."""
    own, other = replace(ATTENTION, seq=8192), replace(ATTENTION, seq=8192, **change)
    rows = row(own, attention_by_hand(own), "alone"), row(other, 2 * attention_by_hand(other), "alone")
    cost = kernel_seconds(ATTENTION, stack(*rows, **ATTENTION_PARAMETERS), GPU, "alone")
    assert cost.seconds == pytest.approx(attention_by_hand(ATTENTION), rel=0.12)


def test_attention_s_constants_beside_communication_are_slower_by_the_ratio() -> None:
    far = KernelShape("attention_fwd", batch=1, seq=64, heads=1, kv_heads=1, head_dim_qk=16, head_dim_v=16)
    table = stack(row(far, attention_by_hand(far) / 0.9), **ATTENTION_PARAMETERS)
    expected = attention_by_hand(ATTENTION) / 0.9
    assert kernel_seconds(ATTENTION, table, GPU, "overlapped").seconds == pytest.approx(expected, rel=0.01)


SMALL, LARGE = KernelShape("copy", bytes=10**7), KernelShape("copy", bytes=10**9)


@pytest.mark.parametrize(
    ("moved", "seconds", "basis"),
    [(2 * 10**6, 4e-6, "extrapolated"), (5 * 10**6, 5e-6, "extrapolated"), (10**7, 1e-5, "measured"),
     (round(10**7.5), 1e-5 * 50**0.25, "interpolated"), (round(10**8.5), 1e-5 * 50**0.75, "interpolated"),
     (4 * 10**9, 2e-3, "extrapolated")],
)  # fmt: skip
def test_bytes_below_between_and_beyond_the_rows(moved: int, seconds: float, basis: str) -> None:
    """Below at the first row's rate down to the launch floor, between along a power, beyond at the last row's rate."""
    table = stack(row(SMALL, 1e-5), row(LARGE, 5e-4), **{"memory.launch_floor_s": parameter(4e-6)})
    cost = kernel_seconds(KernelShape("copy", bytes=moved), table, GPU, "overlapped")
    assert (cost.seconds, cost.basis) == (pytest.approx(seconds, rel=1e-6), basis)


@pytest.mark.parametrize(("moved", "low"), [(2 * 10**7, 0.9), (5 * 10**8, 0.5)])
def test_the_nearer_row_gives_the_range_of_bytes(moved: int, low: float) -> None:
    vague = replace(row(LARGE, 5e-4), low=2.5e-4)
    cost = kernel_seconds(KernelShape("copy", bytes=moved), stack(row(SMALL, 1e-5), vague), GPU, "overlapped")
    assert cost.low / cost.seconds == pytest.approx(low)


def test_the_very_call_in_the_other_regime_goes_before_its_likes_in_the_own() -> None:
    other = replace(GEMM, n=14336)
    table = stack(row(GEMM, 1e-3, "alone"), row(other, 5e-2), **GEMM_PARAMETERS)
    assert kernel_seconds(GEMM, table, GPU, "overlapped").seconds == pytest.approx(1e-3 / 0.9)


@pytest.mark.parametrize(("sms", "slower"), [(0, 1.0), (10, 1 + 1 / 18), (20, 1 / 0.9), (40, 1 + 2 / 9)])
@pytest.mark.parametrize("regime", ["alone", "overlapped"])
def test_the_slow_down_is_in_proportion_to_the_sms_of_communication(regime: str, sms: int, slower: float) -> None:
    """Measured with 20: a ratio of 0.9 is 1/9 slower; without any there is none. Alone is alone whatever is asked."""
    table = stack(row(GEMM, 1e-3 if regime == "alone" else 1e-3 / 0.9, regime))
    assert kernel_seconds(GEMM, table, GPU, "overlapped", sms).seconds == pytest.approx(1e-3 * slower)
    assert kernel_seconds(GEMM, table, GPU, "alone", sms).seconds == pytest.approx(1e-3)


def test_other_sms_than_measured_widen_the_range() -> None:
    """The ratio's 0.8 to 1.0: with 40 SMs 1.5 to 1.0 times alone, over 1.25 to 1.0 with 20."""
    cost = kernel_seconds(GEMM, stack(row(GEMM, 1e-3)), GPU, "overlapped", 40)
    assert cost.low == pytest.approx(0.9e-3 * 1.0)
    assert cost.high == pytest.approx(1.2e-3 * 1.5 / 1.25)


def test_a_release_s_factor_is_that_of_its_pass() -> None:
    scales = {f"gemm.fp8-block.{name}.scale": parameter(value) for name, value in (("fprop", 1.5), ("dgrad", 1.25))}
    gradient = replace(GEMM, variant="dgrad")
    table = stack(row(GEMM, 1e-3, "alone"), row(gradient, 1e-3, "alone"), **scales)
    assert kernel_seconds(GEMM, table, GPU, "alone").seconds == pytest.approx(1.5e-3)
    assert kernel_seconds(gradient, table, GPU, "alone").seconds == pytest.approx(1.25e-3)


def test_several_runs_are_as_certain_as_the_least_certain() -> None:
    table = stack(row(NORM, 1e-3), row(NORM, 3e-3, basis="assumed"))
    assert kernel_seconds(NORM, table, GPU, "overlapped").basis == "assumed"


@pytest.mark.parametrize("sizes", [(940, 990, 1030), (1000, 1100), (1020, 1030), (1010, 1150)])
def test_rows_that_fall_with_more_tokens_are_one_point_of_which_fewer_take_no_more_and_more_no_less(
    sizes: tuple[int, ...],
) -> None:
    """Their mean in tokens and in seconds, by ratio, whatever the waves of the formula do near it."""
    shapes = [replace(GEMM, m=m) for m in sizes]
    times = [
        fitted(shape) * factor
        for shape, factor in zip(shapes, (1.2, 1.4, 0.6) if len(sizes) == 3 else (1.4, 0.9), strict=True)
    ]
    table = stack(*(row(shape, s, "alone") for shape, s in zip(shapes, times, strict=True)), **GEMM_PARAMETERS)
    at, seconds = math.prod(sizes) ** (1 / len(sizes)), math.prod(times) ** (1 / len(times))
    for m in set(range(900, 1200, 3)) - set(sizes):
        found = kernel_seconds(replace(GEMM, m=m), table, GPU, "alone").seconds
        assert found <= seconds * (1 + 1e-9) if m < at else found >= seconds * (1 - 1e-9)


def test_constants_alone_are_slower_beside_communication() -> None:
    """Without any row: over the class's ratio, 0.9 for arithmetic and 0.95 for bytes."""
    table = stack(**GEMM_PARAMETERS, **ATTENTION_PARAMETERS, **{"memory.default": parameter(0.5)})
    for shape, ratio in ((GEMM, 0.9), (ATTENTION, 0.9), (NORM, 0.95)):
        alone, beside = (kernel_seconds(shape, table, GPU, regime).seconds for regime in ("alone", "overlapped"))
        assert beside == pytest.approx(alone / ratio)


def test_what_rests_on_an_assumption_is_assumed() -> None:
    table = stack()
    share = Assumption(key="memory.rmsnorm", value=0.5, low=0.4, high=0.6, unit="fraction", source="me", reason="so")
    table.assumptions = {share.key: share}
    assert kernel_seconds(NORM, table, GPU, "alone").basis == "assumed"
