"""Law: a memory-bound kernel that changes with its rows or its size is fitted, and predicted, by the form that it has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hwprofiles.calibration.fits import fit_points, memory
from hwprofiles.calibration.fits.memory_forms import ALONE, Form, without_late
from hwprofiles.calibration.fits.points import MemoryPoint
from hwprofiles.catalog import load_gpu
from hwprofiles.kernel_list import read_shapes
from hwprofiles.kernels.memory_bound import REFERENCE_BYTES
from hwprofiles.kernels.rows import KernelRow, KernelTable
from hwprofiles.kernels.shape import FEW, FEW_ROWS, KernelShape
from hwprofiles.record_file import CatalogError
from hwprofiles.units import MICRO, MILLI
from simulator.scenario.model import GqaAttention
from simulator.workload.counting import rmsnorm_bwd
from simulator.workload.modules.moesim_torch import _norm_bwd
from tests.hwprofiles.test_fits import cost, memory_row

H100 = load_gpu("h100")
RATE = H100.hbm_bytes_per_s
BY_ROW = 0.6 * MICRO / 1000
"""Seconds of a row."""
AT_REFERENCE = REFERENCE_BYTES / (0.2 * RATE)
"""Seconds of 64 MiB."""


def norms(library: str = "torch", widths: tuple[int, ...] = (64, 128)) -> list[dict[str, str]]:
    """Of heads: 4 us, and 0.6 ns a row whatever its width."""
    return [
        memory_row("rmsnorm", library, 4 * rows * width, 4 * MICRO + BY_ROW * rows, rows, width)
        for width in widths for rows in (1 << 14, 1 << 16, 1 << 18, 1 << 20)
    ]  # fmt: skip


def grown(op: str = "reduce_columns", exponent: float = 0.5) -> list[dict[str, str]]:
    """20 us beside 0.2 of the bandwidth at 64 MiB, four times the bytes twice as long."""
    return [
        memory_row(op, "torch", moved, 20 * MICRO + AT_REFERENCE * (moved / REFERENCE_BYTES) ** exponent)
        for moved in (1 << i for i in range(22, 31))
    ]  # fmt: skip


def value(found: Mapping[str, Mapping[str, Any]], key: str) -> float:
    return float(found[key]["value"])


def test_narrow_rows_bind_a_norm_of_heads_and_one_width_tells_another() -> None:
    found, judged = fit_points(norms(), H100)
    assert value(found, "memory.rmsnorm.rows_per_s") == pytest.approx(1 / BY_ROW, rel=0.03)
    assert judged[0].error < 0.02 < 0.3 < judged[0].roofline
    one, _ = fit_points(norms(widths=(128,)), H100)
    for parameters in (found, one):
        got = cost(parameters, KernelShape("rmsnorm", m=1 << 17, n=64, bytes=4 << 23, library="torch"))
        assert got.seconds == pytest.approx(4 * MICRO + BY_ROW * (1 << 17), rel=0.05)
        assert got.low <= got.seconds <= got.high


def test_without_a_width_bytes_alone_say_how_long_rows_take() -> None:
    found, _ = fit_points(norms(), H100)
    shape = KernelShape("rmsnorm", m=1 << 24, bytes=4 << 24, library="torch")
    wide = KernelShape("rmsnorm", m=1 << 18, n=64, bytes=4 << 24, library="torch")
    assert cost(found, shape).seconds < 0.5 * cost(found, wide).seconds


def test_a_kernel_that_grows_more_parallel_has_an_exponent_up_to_the_bandwidth() -> None:
    found, judged = fit_points(grown(), H100)
    assert value(found, "memory.reduce_columns.exponent") == pytest.approx(0.5, rel=0.03)
    assert judged[0].error < 0.08 < 0.5 < judged[0].roofline
    times = [cost(found, KernelShape("reduce_columns", bytes=1 << i)).seconds for i in range(20, 44)]
    assert times[8] / times[6] == pytest.approx((20 * MICRO + 2 * AT_REFERENCE) / (20 * MICRO + AT_REFERENCE), rel=0.05)
    assert all(less < more for less, more in pairwise(times))
    assert times[-1] >= (1 << 43) / RATE


def test_a_class_that_bytes_alone_tell_better_has_its_roofline() -> None:
    """Times that fall short of a latency's: no form of them does better than the roofline."""
    rows = [
        memory_row("sort", "torch", 1 << i, (1 << i) / (0.3 * RATE) * factor)
        for i, factor in ((20, 1.3), (23, 0.8), (26, 1.25), (29, 0.75), (32, 1.3), (35, 0.8))
    ]
    fit = memory.MemoryFit([MemoryPoint("sort", "torch", "", "bf16", int(r["bytes"]), 1, 0, 0, float(r["seconds"]))
                            for r in rows], RATE)  # fmt: skip
    judged = fit.judged("sort")
    assert judged.error <= judged.roofline
    assert fit.form == ALONE or judged.error < judged.roofline
    assert Form().waits and not ALONE.waits


def test_a_call_of_more_rows_did_not_wait_for_the_host() -> None:
    """As many bytes in twice as many rows may take longer; as many rows of more bytes may not be faster."""
    wide = MemoryPoint("rmsnorm", "torch", "", "bf16", 1 << 26, 1, 1 << 17, 128, 80 * MICRO)
    narrow = wide._replace(rows=1 << 18, width=64, seconds=160 * MICRO)
    late = wide._replace(bytes=1 << 25, width=64, seconds=100 * MICRO)
    assert without_late([wide, narrow, late]) == [wide, narrow]


def measured(rows: int, width: int, seconds: float) -> KernelRow:
    shape = KernelShape("rmsnorm", m=rows, n=width, bytes=4 * rows * width, library="torch")
    return KernelRow(shape, "alone", seconds, seconds, seconds, "measured", "test")


def test_a_measured_row_answers_for_its_width_and_for_calls_that_state_none() -> None:
    narrow, wide = measured(1 << 18, 64, 3 * MILLI), measured(1 << 17, 128, 1 * MILLI)
    table = KernelTable((narrow, wide))
    assert [table.exact(row.shape, "alone") for row in (narrow, wide)] == [narrow, wide]
    bare = KernelShape("rmsnorm", bytes=1 << 26, library="torch")
    pooled = table.exact(bare, "alone")
    assert pooled is not None and pooled.seconds == pytest.approx(2 * MILLI)
    assert table.exact(KernelShape("rmsnorm", m=1 << 14, n=1024, bytes=1 << 26, library="torch"), "alone") is None
    old = KernelRow(bare, "alone", 5 * MILLI, 5 * MILLI, 5 * MILLI, "measured", "without a width")
    assert KernelTable((old,)).exact(wide.shape, "alone") == old


def test_rows_of_another_width_correct_no_kernel_that_rows_bind() -> None:
    found, _ = fit_points(norms(), H100)
    slow = measured(1 << 17, 128, 1 * MILLI)
    same, other = (KernelShape("rmsnorm", m=1 << 18, n=n, bytes=4 * n << 18, library="torch") for n in (128, 64))
    assert cost(found, same, slow).seconds >= 1 * MILLI
    assert cost(found, other, slow).seconds == pytest.approx(4 * MICRO + BY_ROW * (1 << 18), rel=0.05)


def test_a_list_of_kernels_has_a_column_for_the_width(tmp_path: Path) -> None:
    path = tmp_path / "shapes.csv"
    path.write_text("op,bytes,m,width\nrmsnorm,67108864,262144,64\nrmsnorm,67108864,,\n")
    first, second = (row.shape for row in read_shapes(path).rows)
    assert (first.m, first.width, second.m, second.width) == (262144, 64, 0, 0)
    for line, words in (
        ("rmsnorm,67108864,,64", "m: is missing; a width needs the number of rows"),
        ("gemm,,4,64", "width: 64 has no meaning for gemm"),
    ):
        path.write_text(f"op,bytes,m,width\n{line}\n")
        with pytest.raises(CatalogError, match=words):
            read_shapes(path)
    path.write_text("op,bytes,m,n,width\nsort,4096,8,32,64\n")
    with pytest.raises(CatalogError, match="64, but n is 32"):
        read_shapes(path)


def test_few_rows_of_a_norms_weight_gradient_are_a_kernel_of_their_own() -> None:
    """Up to 64 * 1024 rows 3 ns each; more of them by their bytes, in parts side by side."""
    rows = [
        memory_row("rmsnorm_bwd", "torch-heads-weight", 512 * count, seconds, count, 128)
        for count, seconds in (
            (1 << 14, 50 * MICRO), (1 << 16, 200 * MICRO), (1 << 17, 40 * MICRO), (1 << 19, 120 * MICRO), (1 << 21, 440 * MICRO)
        )
    ]  # fmt: skip
    found, _ = fit_points(rows, H100)
    few, many = (
        KernelShape("rmsnorm_bwd", variant, m=count, n=128, bytes=512 * count, library="torch-heads-weight")
        for variant, count in ((FEW, FEW_ROWS // 2), ("", 1 << 20))
    )
    assert cost(found, few).seconds == pytest.approx(100 * MICRO, rel=0.1)
    assert cost(found, many).seconds == pytest.approx(227 * MICRO, rel=0.1)


def test_the_torch_model_names_its_kernel_of_few_rows() -> None:
    def variants(rows: int) -> list[str]:
        op = replace(rmsnorm_bwd("q_norm_bwd", rows, 128), name="q_norm_bwd")
        attention = GqaAttention(kind="gqa", num_heads=4, num_kv_heads=4, head_dim=128, qk_norm=True)
        place = SimpleNamespace(model=SimpleNamespace(attention=attention, hidden_size=512))
        return [
            each.shape.variant for each in _norm_bwd(op, place) if each.phase == "W" and each.shape.op == "rmsnorm_bwd"
        ]

    assert (variants(FEW_ROWS), variants(FEW_ROWS + 1)) == ([FEW], [""])
