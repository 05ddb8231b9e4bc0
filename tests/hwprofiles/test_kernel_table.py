"""A measured row is returned as it stands; everything else says from which rows or parameters it was derived."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from hwprofiles.catalog import CatalogError
from hwprofiles.kernels.parameters import MissingKernelError, row_problem
from hwprofiles.kernels.rows import KERNEL_COLUMNS, KernelRow, KernelTable, read_kernel_rows
from hwprofiles.kernels.shape import KernelShape
from hwprofiles.kernels.table import kernel_seconds
from hwprofiles.stack_records import Parameter

GPU = SimpleNamespace(
    name="made-up",
    peak_flop_per_s={"bf16": 1.0e15, "fp8": 2.0e15},
    hbm_bytes_per_s=3.0e12,
    num_sms=100,
    family="hopper",
    boost_clock_hz=None,
)
GEMM = KernelShape("gemm", "fprop", "fp8-block", 4096, 7168, 2048)
ATTENTION = KernelShape("attention_fwd", batch=1, seq=4096, heads=128, kv_heads=128, head_dim_qk=192, head_dim_v=128)
NORM = KernelShape("rmsnorm", bytes=100_000_000)


def parameter(value: float, low: float | None = None, high: float | None = None) -> Parameter:
    return Parameter(
        value=value, low=low or value, high=high or value, unit="1", basis="interpolated", source="made up"
    )


OVERLAP = {
    "overlap.gemm.ratio": parameter(0.9, 0.8, 1.0),
    "overlap.attention.ratio": parameter(0.9, 0.8, 1.0),
    "overlap.memory.ratio": parameter(0.95, 0.9, 1.0),
    "overlap.comm_sms": parameter(20.0),
}
CONSTANTS = {
    "t0_s": 2e-6, "t_tile_s": 8e-7, "st_bytes_per_s": 3e10, "l2_bytes_per_s": 9e10, "eta": 0.85, "ecap": 0.8, "eb": 0.8,
}  # fmt: skip
GEMM_PARAMETERS = {f"gemm.fp8-block.{name}": parameter(value) for name, value in CONSTANTS.items()}
GEMM_PARAMETERS["gemm.fp8-block.residual"] = parameter(1.0, 0.9, 1.1)


def row(
    shape: KernelShape, seconds: float, regime: str = "overlapped", basis: str = "measured", sms: int = 0
) -> KernelRow:
    return KernelRow(shape, regime, seconds, 0.9 * seconds, 1.2 * seconds, basis, "a bench", sms)  # type: ignore[arg-type]


def stack(*rows: KernelRow, **parameters: Parameter) -> SimpleNamespace:
    return SimpleNamespace(
        name="s", kernels=KernelTable(tuple(rows)), parameters={**OVERLAP, **parameters}, assumptions={}
    )


@pytest.mark.parametrize("shape", [GEMM, ATTENTION, NORM], ids=lambda shape: shape.op)
def test_exact_row_is_returned(shape: KernelShape) -> None:
    cost = kernel_seconds(shape, stack(row(shape, 1e-3)), GPU, "overlapped")
    assert (cost.seconds, cost.low, cost.high) == (1e-3, 0.9 * 1e-3, 1.2 * 1e-3)
    assert (cost.basis, cost.source) == ("measured", "a bench")


def test_equal_rows_are_one_row_with_the_widest_range() -> None:
    cost = kernel_seconds(NORM, stack(row(NORM, 1e-3), row(NORM, 3e-3)), GPU, "overlapped")
    assert cost.seconds == pytest.approx(2e-3)
    assert (cost.low, cost.high) == (pytest.approx(0.9e-3), pytest.approx(3.6e-3))


@pytest.mark.parametrize("shape", [GEMM, ATTENTION, NORM], ids=lambda shape: shape.op)
def test_other_regime_is_converted_by_the_stated_ratio(shape: KernelShape) -> None:
    ratio = 0.95 if shape is NORM else 0.9
    alone = kernel_seconds(shape, stack(row(shape, 1e-3)), GPU, "alone")
    assert alone.seconds == pytest.approx(ratio * 1e-3)
    assert alone.basis == "interpolated"
    beside = kernel_seconds(shape, stack(row(shape, 1e-3, "alone")), GPU, "overlapped")
    assert beside.seconds == pytest.approx(1e-3 / ratio)
    assert beside.low <= beside.seconds <= beside.high


def test_slow_down_grows_with_communication_sms() -> None:
    measured = stack(row(GEMM, 1e-3))
    times = [kernel_seconds(GEMM, measured, GPU, "overlapped", sms).seconds for sms in (0, 6, 20, 40)]
    assert times == sorted(times)
    assert times[2] == pytest.approx(1e-3)
    assert times[0] == pytest.approx(kernel_seconds(GEMM, measured, GPU, "alone").seconds)


def test_expert_rows_scale_from_one_row_of_the_same_weights() -> None:
    grouped = KernelShape("grouped_gemm", "fprop", "fp8-block", 32512, 4096, 7168, 4)
    other = row(KernelShape("gemm", "fprop", "fp8-block", 4096, 24576, 1536), 9e-4)
    table = stack(row(grouped, 1.86e-3), other, **GEMM_PARAMETERS)
    more = KernelShape("grouped_gemm", "fprop", "fp8-block", 2 * 32512, 4096, 7168, 4)
    cost = kernel_seconds(more, table, GPU, "overlapped")
    assert cost.seconds == pytest.approx(2 * 1.86e-3, rel=0.03)
    assert cost.basis == "interpolated"


def test_token_rows_between_two_measured_ones_stay_between() -> None:
    sizes = {1024: 1e-4, 4096: 3.6e-4, 16384: 1.4e-3}
    rows = [row(KernelShape("gemm", "wgrad", "fp8-block", 7168, 2048, k), s) for k, s in sizes.items()]
    for k in (1500, 3000, 8000):
        cost = kernel_seconds(KernelShape("gemm", "wgrad", "fp8-block", 7168, 2048, k), stack(*rows), GPU, "overlapped")
        below, above = (f(s for s in sizes if (s < k) == lower) for f, lower in ((max, True), (min, False)))
        assert sizes[below] <= cost.seconds <= sizes[above]
        assert cost.basis == "interpolated"


def test_far_shape_is_extrapolated_and_its_range_is_wider() -> None:
    table = stack(row(GEMM, 1e-4), **GEMM_PARAMETERS)
    near = kernel_seconds(KernelShape("gemm", "fprop", "fp8-block", 4096, 7168, 1536), table, GPU, "overlapped")
    far = kernel_seconds(KernelShape("gemm", "fprop", "fp8-block", 4096, 7168, 12288), table, GPU, "overlapped")
    assert (near.basis, far.basis) == ("interpolated", "extrapolated")
    assert far.high / far.seconds > near.high / near.seconds > 1.0


def test_rows_of_quite_another_size_leave_the_fitted_constants_alone() -> None:
    tiny = KernelShape("gemm", "fprop", "fp8-block", 128, 64, 64)
    huge = KernelShape("gemm", "fprop", "fp8-block", 8192, 65536, 8192)
    fitted = kernel_seconds(huge, stack(**GEMM_PARAMETERS), GPU, "alone")
    cost = kernel_seconds(huge, stack(row(tiny, 1e-3, "alone"), **GEMM_PARAMETERS), GPU, "alone")
    assert cost.seconds == pytest.approx(fitted.seconds, rel=0.1)


def test_transferred_rows_pass_on_their_basis() -> None:
    table = stack(row(ATTENTION, 1e-3, basis="transferred"))
    longer = KernelShape("attention_fwd", batch=1, seq=8192, heads=128, kv_heads=128, head_dim_qk=192, head_dim_v=128)
    cost = kernel_seconds(longer, table, GPU, "overlapped")
    assert cost.basis == "transferred"
    assert 3.0 < cost.seconds / 1e-3 < 4.0, "work is four times, efficiency rises with the sequence"


def test_windowed_attention_is_not_the_full_row() -> None:
    half = KernelShape(
        "attention_fwd", batch=1, seq=4096, heads=128, kv_heads=128, head_dim_qk=192, head_dim_v=128,
        flop=0.5 * ATTENTION.attention_flop,
    )  # fmt: skip
    cost = kernel_seconds(half, stack(row(ATTENTION, 1e-3)), GPU, "overlapped")
    assert 0.5e-3 < cost.seconds < 0.65e-3


def test_memory_bound_kernel_between_and_beyond_rows() -> None:
    table = stack(row(KernelShape("copy", bytes=10**7), 1e-5), row(KernelShape("copy", bytes=10**9), 5e-4))
    between = kernel_seconds(KernelShape("copy", bytes=10**8), table, GPU, "overlapped")
    assert between.seconds == pytest.approx((1e-5 * 5e-4) ** 0.5)
    assert between.basis == "interpolated"
    beyond = kernel_seconds(KernelShape("copy", bytes=2 * 10**9), table, GPU, "overlapped")
    assert beyond.seconds == pytest.approx(1e-3)
    assert beyond.basis == "extrapolated"


def test_memory_bound_kernel_without_a_row_takes_its_fraction_and_a_floor_for_each_launch() -> None:
    parameters = {
        "memory.copy": parameter(0.5, 0.25, 1.0),
        "memory.default": parameter(0.1),
        "memory.launch_floor_s": parameter(2e-6),
    }
    cost = kernel_seconds(KernelShape("copy", bytes=3 * 10**9, num_kernels=2), stack(**parameters), GPU, "alone")
    assert cost.seconds == pytest.approx(4e-6 + 2e-3)
    assert (cost.low, cost.high) == (pytest.approx(4e-6 + 1e-3), pytest.approx(4e-6 + 4e-3))
    other = kernel_seconds(KernelShape("embedding", bytes=3 * 10**9), stack(**parameters), GPU, "alone")
    assert other.seconds == pytest.approx(2e-6 + 1e-2)


def test_release_scale_multiplies_rows_and_formula_and_says_transferred() -> None:
    scaled = stack(row(GEMM, 1e-3, "alone"), **{"gemm.fp8-block.fprop.scale": parameter(1.25, 1.2, 1.4)})
    cost = kernel_seconds(GEMM, scaled, GPU, "alone")
    assert cost.seconds == pytest.approx(1.25e-3)
    assert (cost.low, cost.high, cost.basis) == (pytest.approx(1.08e-3), pytest.approx(1.68e-3), "transferred")


def test_an_assumption_overrides_a_parameter_of_the_same_key() -> None:
    table = stack(row(NORM, 1e-3))
    table.assumptions = {"overlap.memory.ratio": parameter(0.5)}
    assert kernel_seconds(NORM, table, GPU, "alone").seconds == pytest.approx(5e-4)


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        (KernelShape("gemm", "fprop", "bf16", 8, 8, 8), "gemm.bf16.fprop"),
        (KernelShape("gemm", "fprop", "nvfp4", 8, 8, 8), "no fp4 peak"),
        (ATTENTION, "attention.bf16.fwd"),
        (NORM, "memory.rmsnorm"),
    ],
)
def test_what_the_stack_lacks_is_named(shape: KernelShape, said: str) -> None:
    with pytest.raises(MissingKernelError, match=said):
        kernel_seconds(shape, stack(), GPU, "alone")


def test_empty_gemm_takes_no_time() -> None:
    assert (
        kernel_seconds(KernelShape("grouped_gemm", "fprop", "bf16", 0, 8, 8, 4), stack(), GPU, "alone").seconds == 0.0
    )


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("gemm,fprop,bf16,1,1,1,1,,,,,,,,,,alone,0,,,measured,,x,", "low <= seconds"),
        ("gemm,fprop,bf16,1,1,1,1,,,,,,,,,,alone,1,2,3,measured,,x,", "low <= seconds"),
        ("gemm,fprop,bf16,1,1,1,1,,,,,,,,,,beside,1,,,measured,,x,", "regime"),
        ("gemm,fprop,bf16,1,1,1,1,,,,,,,,,,alone,1,,,guessed,,x,", "basis"),
        ("gemm,fprop,bf16,1.5,1,1,1,,,,,,,,,,alone,1,,,measured,,x,", "whole number"),
        ("gemm,fprop,bf16,1,1,1,1,,,,,,,,,,alone,1,,,measured,,,", "source: is empty"),
        ("gem,fprop,bf16,1,1,1,1,,,,,,,,,,alone,1,,,measured,,x,", "op: .*gem.*; allowed adamw, .*did you mean gemm"),
        ("gemm,fprop,bf61,1,1,1,1,,,,,,,,,,alone,1,,,measured,,x,", "dtype: .*bf61.*; allowed bf16, .*did you mean"),
        ("gemm,prop,bf16,1,1,1,1,,,,,,,,,,alone,1,,,measured,,x,", "variant: .*did you mean fprop"),
        ("rmsnorm,fprop,bf16,,,,,,,,,,,,8,,alone,1,,,measured,,x,", "variant: .*fprop"),
        ("gemm,fprop,bf16,1,1,,1,,,,,,,,,,alone,1,,,measured,,x,", "k: is missing; a row of gemm needs m, n, k"),
        ("rmsnorm,,bf16,,,,,,,,,,,,,,alone,1,,,measured,,x,", "bytes: is missing"),
        ("gemm,fprop,bf16,1,1,1,1,,,,,,,,,,alone,fast,,,measured,,x,", "seconds: is not a finite number"),
        ("gemm,fprop,bf16,1,1,1,1,,,,,,,,,,alone,1", "number of cells"),
    ],
)
def test_bad_row_is_refused_with_its_line(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "kernels.csv"
    path.write_text(",".join(KERNEL_COLUMNS) + "\n" + line + "\n", encoding="utf-8")
    with pytest.raises(CatalogError, match=f"kernels.csv:2: .*{said}"):
        read_kernel_rows(path)


def test_a_measurement_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "kernels.csv"
    first = "gemm,fprop,bf16,1,1,1,1,,,,,,,,,132,alone,1,,,measured,,x,"
    others = [first.replace(",x,", ",y,"), first.replace("132", "112"), first.replace("alone", "overlapped")]
    path.write_text("\n".join([",".join(KERNEL_COLUMNS), first, *others]) + "\n", encoding="utf-8")
    assert len(read_kernel_rows(path)) == 4
    path.write_text("\n".join([",".join(KERNEL_COLUMNS), first, *others, first.replace(",1,,,m", ",2,,,m")]) + "\n")
    with pytest.raises(CatalogError, match=r"kernels\.csv:6: the measurement of line 2 again; keep one"):
        read_kernel_rows(path)


@pytest.mark.parametrize(
    ("fast", "says"),
    [
        (
            row(GEMM, 0.99 * 2 * 4096 * 7168 * 2048 / 2.0e15),
            r"seconds: .* above the dense peak of made-up \(2,000 TFLOP/s",
        ),
        (row(GEMM, 1.01 * 2 * 4096 * 7168 * 2048 / 2.0e15, sms=50), r"\(1,000 TFLOP/s on 50 SMs\); allowed at least"),
        (row(ATTENTION, 0.99 * ATTENTION.attention_flop / 1.0e15), r"dense peak of made-up \(1,000 TFLOP/s on 100 SMs"),
        (row(NORM, 1.0, sms=101), r"sms: 101 is out of range; allowed 0 to 100"),
        (row(KernelShape("gemm", "fprop", "nvfp4", 8, 8, 8), 1.0), "dtype: GPU 'made-up' has no fp4 peak"),
    ],
)
def test_what_the_gpu_cannot_do_is_refused(fast: KernelRow, says: str) -> None:
    problem = row_problem(fast, GPU)
    assert problem is not None and re.search(says, problem)


def test_what_the_gpu_can_do_is_believed() -> None:
    assert row_problem(row(GEMM, 1.01 * 2 * 4096 * 7168 * 2048 / 2.0e15), GPU) is None
    assert row_problem(row(NORM, NORM.bytes / 9.0e12), GPU) is None, "the level-2 cache is faster than the memory"


def test_missing_column_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "kernels.csv"
    path.write_text("op,seconds\n", encoding="utf-8")
    with pytest.raises(CatalogError, match="columns missing"):
        read_kernel_rows(path)
