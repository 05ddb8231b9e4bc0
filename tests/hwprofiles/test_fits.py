"""From measured points to constants: closed forms, judgement that has not seen what it judges, ranges, laws of the formulas."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hwprofiles.calibration.fits import Judged, fit_points, overlap
from hwprofiles.calibration.fits import gemm as gemm_fits
from hwprofiles.calibration.fits.parameter import Origin
from hwprofiles.calibration.fits.points import gemm_points
from hwprofiles.calibration.gemm_families import CUBLAS_TILES
from hwprofiles.catalog import load_gpu
from hwprofiles.kernels.anchoring import KernelCost
from hwprofiles.kernels.attention import AttentionConstants, core_limits, core_seconds
from hwprofiles.kernels.gemm_formula import GemmBatch, GemmConstants, GemmLimits, GemmSize, gemm_seconds
from hwprofiles.kernels.rows import KernelRow, KernelTable
from hwprofiles.kernels.shape import OWN_GEMMS, KernelShape
from hwprofiles.kernels.table import kernel_seconds
from hwprofiles.parameter_keys import key_problem, part_problems
from hwprofiles.stack_records import Parameter
from hwprofiles.units import GIGA, MICRO

H100 = load_gpu("h100")
MEASURED = Path(__file__).parents[2] / "hwprofiles" / "measurements"
TRUE = GemmConstants(
    3e-6, 7e-7, 3e10, 1e11, eta=0.95, ecap=0.83, eb=0.8, p=8.0, bm_max=256, bn_max=256, bn_step=32, q=1.4, splits=16
)
WEIGHTS = ((4096, 7168), (7168, 2048), (1024, 1024), (2112, 7168), (24576, 1536), (512, 32768))
ROWS = (64, 256, 1024, 4096, 16384)


def test_every_key_is_one_that_a_formula_reads() -> None:
    rows = [*gemm_table(), *attention_table(), *memory_table(), *held_table()]
    found, _ = fit_points(rows, H100)
    assert {key: key_problem(key) for key in found if key_problem(key)} == {}
    assert list(part_problems(found)) == []
    assert {key.partition(".")[0] for key in found} == {"gemm", "attention", "memory", "overlap"}


def held_table() -> Iterator[dict[str, str]]:
    """A product, a core and a copy that take 1.0, 1.2, 1.5 times as long with 0, 16, 32 SMs held; one that is told 1.1, 1.3."""
    for sms, factor in ((132, 1.0), (116, 1.2), (100, 1.5)):
        yield gemm_row(GemmSize(4096, 4096, 7168, 1, "fprop", "bf16"), 1e-3 * factor, sms=str(sms))
        core = next(attention_table())
        yield {**core, "seq": "8192", "seconds": repr(1e-3 * factor), "sms": str(sms)}
        yield {**memory_row("copy", "torch", 1 << 30, 1e-3), "sms": str(sms)}
    for sms, factor in ((116, 1.1), (100, 1.3)):
        told = gemm_row(GemmSize(4096, 4096, 7168, 1, "fprop", "bf16"), 1e-3 * factor, sms=str(sms))
        yield {**told, "library": "cublas-limited"}


def test_what_kernels_keep_beside_held_sms_is_interpolated_and_pools_libraries_that_are_told() -> None:
    """20 held: a quarter from 16 to 32: 1.275 and 1.15 times as long; a copy keeps all."""
    found = overlap.fitted(list(held_table()), H100, Origin("here"))
    ends = found["overlap.gemm.ratio"]
    assert (ends["low"], ends["value"], ends["high"]) == pytest.approx(
        (1 / 1.275, (1 / 1.275 + 1 / 1.15) / 2, 1 / 1.15), rel=1e-4
    )
    assert found["overlap.attention.ratio"]["value"] == pytest.approx(1 / 1.275, rel=1e-4)
    memory = found["overlap.memory.ratio"]
    assert (memory["low"], memory["value"], memory["high"]) == (0.82, 0.95, 1.0)  # dispatch moves bytes itself
    held = found["overlap.comm_sms"]
    assert (held["value"], held["basis"], held["source"]["kind"]) == (20.0, "transferred", "paper")
    assert overlap.fitted([row for row in held_table() if row["op"] != "copy"], H100, Origin("here")) == {}


def test_own_products_have_constants_by_their_name_and_change_no_others() -> None:
    """Five times as fast as the library's, and much slower with fewer SMs."""
    few = [row for row in gemm_table() if row["k"] in ("7168", "2048")]
    own = [{**row, "library": OWN_GEMMS, "seconds": repr(float(row["seconds"]) / 5.0)} for row in few]
    library, _ = fit_points(few, H100)
    found, judged = fit_points([*own, *few], H100)
    assert {key: found[key] for key in library} == library
    named = {key.replace(f".{OWN_GEMMS}", "") for key in found.keys() - library.keys()}
    assert named == library.keys() and any(each.name.startswith(f"gemm.bf16.{OWN_GEMMS},") for each in judged)
    held = list(held_table())
    slow = [
        {**row, "library": OWN_GEMMS, "seconds": str(9.0 * float(row["seconds"]))}
        for row in held
        if row["sms"] != "132"
    ]
    alone = [{**row, "library": OWN_GEMMS} for row in held if row["sms"] == "132"]
    assert overlap.fitted([*held, *slow, *alone], H100, Origin("x")) == overlap.fitted(held, H100, Origin("x"))


def gemm_row(size: GemmSize, seconds: float, **cells: str) -> dict[str, str]:
    return {
        "op": "gemm", "variant": size.variant, "dtype": size.dtype, "library": "cublas", "m": str(size.m), "n": str(size.n),
        "k": str(size.k), "groups": "1", "state": "benchmark_loop", "seconds": repr(seconds), **cells,
    }  # fmt: skip


def gemm_table(factor: Mapping[tuple[int, int], float] | None = None) -> Iterator[dict[str, str]]:
    """Calls that take what the formula says with TRUE, those of some weights `factor` times it."""
    limits = gemm_fits.limits_of(H100, "bf16")
    for n, k in WEIGHTS:
        for m in ROWS:
            size = GemmSize(m, n, k, 1, "fprop", "bf16")
            yield gemm_row(size, gemm_seconds(size, TRUE, limits) * (factor or {}).get((n, k), 1.0))


def of_class(judged: list[Judged], name: str) -> Judged:
    return next(each for each in judged if each.name.startswith(name))


def values(found: Mapping[str, Mapping[str, Any]], stem: str) -> dict[str, float]:
    own = {key: each["value"] for key, each in found.items() if key.startswith(f"{stem}.")}
    return {key.removeprefix(f"{stem}."): value for key, value in own.items()}


def test_gemms_made_by_the_formula_give_its_constants_back() -> None:
    """Those that the calls tell: what they all have in common within their priors' reach, times within 2 %."""
    found, judged = fit_points(list(gemm_table()), H100)
    got = values(found, "gemm.bf16")
    for name, reach in (("eta", 0.03), ("ecap", 0.02), ("eb", 0.05), ("t0_s", 0.15)):
        assert got[name] == pytest.approx(getattr(TRUE, name), rel=reach)
    assert (got["splits"], got["bm_max"]) == (16, 256)
    assert all(each.error < 0.02 < each.roofline for each in judged)
    assert found["gemm.bf16.eta"]["state"] == "benchmark_loop"
    assert all(Parameter.model_validate(each) for each in found.values())


def test_judgement_has_not_seen_the_shape_that_it_judges() -> None:
    """All calls of one weight take 1.25 times as long: it alone is wrong by that, and its fit in sample would hide some."""
    odd = (4096, 7168)
    rows = list(gemm_table({odd: 1.25}))
    points, limits = gemm_points(rows), gemm_fits.limits_of(H100, "bf16")
    fit = gemm_fits.fit_family(points, limits, H100, CUBLAS_TILES._replace(splits=16))
    for point, residual in zip(points, fit.left_out, strict=True):
        if point.weight_shape == odd:
            assert math.exp(residual) == pytest.approx(1.25, abs=0.03)
    again = gemm_points(list(gemm_table({odd: 1.6})))
    moved = gemm_fits.fit_family(again, limits, H100, CUBLAS_TILES._replace(splits=16))
    for point, before, after in zip(points, fit.left_out, moved.left_out, strict=True):
        if point.weight_shape == odd:
            assert after - before == pytest.approx(math.log(1.6 / 1.25), abs=1e-9)


def test_priors_of_another_pass_have_not_seen_the_layer_that_is_judged() -> None:
    """The forward of one layer takes half as long again: the input gradient of that layer is judged as before."""
    turned = [{**row, "variant": "dgrad", "n": row["k"], "k": row["n"]} for row in gemm_table()]
    limits = gemm_fits.limits_of(H100, "bf16")

    def judged(factor: float) -> list[float]:
        forward = gemm_fits.fit_family(gemm_points(gemm_table({(4096, 7168): factor})), limits, H100)
        points = gemm_points(turned)
        fit = gemm_fits.fit_family(points, limits, H100, nearest=forward)
        residuals = zip(points, fit.left_out, strict=True)
        return [residual for point, residual in residuals if point.weight_shape == (4096, 7168)]

    assert judged(1.5) == pytest.approx(judged(1.0), abs=1e-9)


def test_calls_of_a_wrong_kernel_do_not_bend_the_others() -> None:
    """All calls of one weight and one more take three times as long; the fit is of the rest, the error of all."""
    rows = list(gemm_table())
    straight = values(fit_points(rows, H100)[0], "gemm.bf16")
    for row in [row for row in rows if row["k"] == "1536"] + rows[3:4]:
        row["seconds"] = repr(3.0 * float(row["seconds"]))
    found, judged = fit_points(rows, H100)
    bent = values(found, "gemm.bf16")
    for name in ("eta", "ecap", "eb", "t0_s"):
        assert bent[name] == pytest.approx(straight[name], rel=0.02)
    assert max(each.worst for each in judged) == pytest.approx(2 / 3, abs=0.05)


def test_of_two_states_of_a_call_the_shorter_counts_and_a_call_with_fewer_sms_is_apart() -> None:
    rows = list(gemm_table())
    slower = [{**row, "state": "first_launches", "seconds": repr(2.0 * float(row["seconds"]))} for row in rows]
    held = [{**row, "sms": "64", "seconds": repr(3.0 * float(row["seconds"]))} for row in rows]
    beside = [{**row, "beside": "copy", "seconds": repr(0.1 * float(row["seconds"]))} for row in rows]
    failed = [{**row, "seconds": "", "n": "96"} for row in rows]
    alone, mixed = fit_points(rows, H100)[0], fit_points([*slower, *held, *rows, *beside, *failed], H100)[0]
    assert values(alone, "gemm.bf16") == values(mixed, "gemm.bf16")
    assert mixed["gemm.bf16.eta"]["state"] == "first_launches"
    family = gemm_fits.Family("bf16", "cublas", "fprop", is_grouped=False)
    assert {sms: len(found) for sms, found in gemm_fits.with_fewer_sms([*rows, *held], H100, family).items()} == {
        64: len(rows)
    }


def test_a_batch_of_gemms_is_each_of_them() -> None:
    sizes = [GemmSize(m, n, k, 1, "wgrad", "bf16") for n, k in WEIGHTS for m in ROWS]
    limits = GemmLimits(1e15, 3e12, 132, 100)
    assert GemmBatch(sizes, TRUE.tiles, limits).seconds(TRUE) == pytest.approx(
        [gemm_seconds(s, TRUE, limits) for s in sizes]
    )


def test_a_split_k_helps_few_tiles_only_and_a_store_beside_the_main_loop_is_never_slower() -> None:
    limits = gemm_fits.limits_of(H100, "bf16")
    one = GemmConstants(3e-6, 7e-7, 3e10, 1e11, 0.95, 0.83, 0.8, bm_max=256, bn_max=256, bn_step=32)
    split = GemmConstants(3e-6, 7e-7, 3e10, 1e11, 0.95, 0.83, 0.8, bm_max=256, bn_max=256, bn_step=32, splits=16)
    few, many = GemmSize(512, 512, 65536, 1, "fprop", "bf16"), GemmSize(8192, 8192, 4096, 1, "fprop", "bf16")
    assert gemm_seconds(few, split, limits) < 0.6 * gemm_seconds(few, one, limits)
    assert gemm_seconds(many, split, limits) == gemm_seconds(many, one, limits)
    for size in (few, many, GemmSize(4096, 4096, 512, 1, "wgrad", "bf16")):
        assert gemm_seconds(size, TRUE, limits) <= gemm_seconds(size, split, limits)


def test_a_step_has_a_least_time_and_middle_groups_a_slow_kernel() -> None:
    """56 steps of 0.4 us; of groups of 1,024 rows by 4,096 by 1,536 one size is large, of 4,096 rows two."""
    limits = gemm_fits.limits_of(H100, "fp8-row")
    held = replace(TRUE, t_step_s=0.4 * MICRO, splits=1)
    assert gemm_seconds(GemmSize(64, 256, 7168, 1, "fprop", "fp8-row"), held, limits) > 56 * 0.4 * MICRO
    big = GemmSize(8192, 8192, 8192, 1, "fprop", "fp8-row")
    assert gemm_seconds(big, held, limits) == gemm_seconds(big, replace(TRUE, splits=1), limits)
    slow = replace(TRUE, slow=3.0)
    for rows, is_middle in ((64, False), (1024, True), (4096, False)):
        size = GemmSize(8 * rows, 4096, 1536, 8, "fprop", "fp8-row")
        assert size.is_middle == is_middle
        ratio = gemm_seconds(size, slow, limits) / gemm_seconds(size, TRUE, limits)
        assert (ratio > 2.0) == is_middle
    assert not replace(size, m=1024, groups=1).is_middle


def test_steps_of_a_weight_gradient_take_longer_where_its_groups_begin_anywhere() -> None:
    """Uneven groups alone, of large sizes: the slow kernel of middle ones takes no longer for it."""
    limits, skewed = gemm_fits.limits_of(H100, "fp8-row"), replace(TRUE, skew=1.4)
    even = GemmSize(4096, 7168, 32768, 16, "wgrad", "fp8-row")
    middle = replace(even, n=1536, k=8192)
    for size, longer in (
        (even, False), (replace(even, rows_cv=0.5), True), (replace(even, variant="fprop", rows_cv=0.5), False),
        (replace(even, groups=1, rows_cv=0.5), False), (replace(middle, rows_cv=0.5), False),
    ):  # fmt: skip
        ratio = gemm_seconds(size, skewed, limits) / gemm_seconds(size, TRUE, limits)
        assert (ratio > 1.1) == longer, size
        assert ratio == 1.0 or longer, size


@pytest.mark.parametrize("variant", ["fprop", "wgrad"])
def test_more_sms_and_smaller_calls_are_never_slower(variant: str) -> None:
    for n, k in WEIGHTS:
        before = math.inf
        for sms in (8, 32, 64, 100, 131, 132):
            at = gemm_seconds(GemmSize(1000, n, k, 1, variant, "bf16"), TRUE, gemm_fits.limits_of(H100, "bf16", sms))
            assert at <= before
            before = at
        limits = gemm_fits.limits_of(H100, "bf16")
        sizes = [gemm_seconds(GemmSize(1 << i, n, k, 1, variant, "bf16"), TRUE, limits) for i in range(15)]
        assert sizes == sorted(sizes)


def attention_table() -> Iterator[dict[str, str]]:
    limits = core_limits(H100, "bf16", "fwd", "cudnn")
    for heads, dim in ((32, 128), (64, 128), (8, 128), (32, 64), (16, 64)):
        constants = AttentionConstants(8 * MICRO, 500.0, 0.85 if dim == 128 else 0.68, 0.05, 0.5)
        for seq in (1024, 2048, 4096, 16384):
            shape = KernelShape(
                "attention_fwd",
                batch=1,
                seq=seq,
                heads=heads,
                kv_heads=heads,
                head_dim_qk=dim,
                head_dim_v=dim,
                library="cudnn",
            )
            cells = {"batch": 1, "seq": seq, "heads": heads, "kv_heads": heads, "head_dim_qk": dim, "head_dim_v": dim}
            yield {
                "op": "attention_fwd", "dtype": "bf16", "library": "cudnn", "causal": "true", "state": "benchmark_loop",
                "seconds": repr(core_seconds(constants, limits, "cudnn", shape)), **{k: str(v) for k, v in cells.items()},
            }  # fmt: skip


def test_attention_made_by_the_formula_gives_its_constants_back() -> None:
    found, judged = fit_points(list(attention_table()), H100)
    got = values(found, "attention.bf16.fwd.cudnn")
    assert got["d128.rate_share"] == pytest.approx(0.85, rel=0.05)  # the softmax's clocks take the rest
    assert got["d64.rate_share"] == pytest.approx(0.68, rel=0.07)
    assert got["c_tokens"] == pytest.approx(500.0, rel=0.1) and got["t0_s"] == pytest.approx(8 * MICRO, rel=0.15)
    assert [each.error < 0.01 < each.roofline for each in judged] == [True]


def cost(found: Mapping[str, Mapping[str, Any]], shape: KernelShape, *rows: KernelRow) -> KernelCost:
    """On a stack of these parameters and rows."""
    parameters = {key: Parameter.model_validate(each) for key, each in found.items()}
    stack = SimpleNamespace(name="made", kernels=KernelTable(rows), parameters=parameters, assumptions={})
    return kernel_seconds(shape, stack, H100, "alone")


def memory_row(op: str, library: str, moved: int, seconds: float, rows: int = 0, width: int = 0) -> dict[str, str]:
    return {
        "op": op, "library": library, "bytes": str(moved), "m": str(rows), "n": str(width), "seconds": repr(seconds),
        "state": "benchmark_loop", "dtype": "bf16",
    }  # fmt: skip


def memory_table() -> Iterator[dict[str, str]]:
    """A copy of 2.5 us and 0.9 of the bandwidth, a norm of 5 us and 0.8, the same eagerly at 0.3."""
    rate = H100.hbm_bytes_per_s
    for i in range(20, 31, 2):
        moved = 1 << i
        yield memory_row("copy", "torch", moved, 2.5 * MICRO + moved / (0.9 * rate))
        yield memory_row("rmsnorm", "triton", moved, 5.0 * MICRO + moved / (0.8 * rate))
        yield memory_row("rmsnorm", "torch", moved, 5.0 * MICRO + moved / (0.3 * rate))


def test_memory_bound_kernels_made_by_the_formula_give_it_back_by_library() -> None:
    found, judged = fit_points(list(memory_table()), H100)
    got = {key: each["value"] for key, each in found.items()}
    assert got["memory.copy"] == pytest.approx(0.9, rel=0.01)
    assert (got["memory.rmsnorm"], got["memory.rmsnorm.torch"]) == pytest.approx((0.8, 0.3), rel=0.02)
    assert not {"memory.rmsnorm.triton", "memory.copy.torch"} & set(got)  # the libraries that serve need no name
    assert got["memory.launch_floor_s"] == pytest.approx(2.5 * MICRO, rel=0.05)
    assert got["memory.launch_floor_s"] + got["memory.rmsnorm.latency_s"] == pytest.approx(5 * MICRO, rel=0.05)
    assert all(each.error < 0.02 < 0.1 < each.roofline for each in judged)


def test_a_kernel_whose_waiting_passes_beside_its_bytes_is_told_from_a_sum() -> None:
    """40 us of launch and 0.8 of the bandwidth by the third power: twice 40 us together are 50."""
    rate = H100.hbm_bytes_per_s
    rows = [
        memory_row("adamw", "torch", moved, ((40e-6) ** 3 + (moved / (0.8 * rate)) ** 3) ** (1 / 3))
        for moved in (round(0.8 * rate * 40e-6 * 2.0**i) for i in range(-4, 6))
    ]
    found, judged = fit_points(rows, H100)
    assert found["memory.adamw.p"]["value"] == 3.0 and "memory.copy.p" not in fit_points(list(memory_table()), H100)[0]
    assert found["memory.adamw"]["value"] == pytest.approx(0.8, rel=0.02) and judged[0].error < 0.02
    got = cost(found, KernelShape("adamw", bytes=round(0.8 * rate * 40e-6)))
    assert got.seconds == pytest.approx(40e-6 * 2 ** (1 / 3), rel=0.03)


def test_elements_bound_a_kernel_that_takes_as_long_for_two_and_four_bytes() -> None:
    rows = [
        memory_row("elementwise_strided", "torch", size * count, 3.0 * MICRO + count / (350 * GIGA), rows=count)
        for count in (1 << 20, 1 << 22, 1 << 24, 1 << 26) for size in (4, 8)
    ]  # fmt: skip
    found, judged = fit_points(rows, H100)
    assert found["memory.elementwise_strided.elements_per_s"]["value"] == pytest.approx(350 * GIGA, rel=0.03)
    assert judged[0].error < 0.03
    for count in (1 << 23, 1 << 25):
        got = cost(found, KernelShape("elementwise_strided", m=count, bytes=4 * count, library="torch"))
        assert got.seconds == pytest.approx(3.0 * MICRO + count / (350 * GIGA), rel=0.02)
        assert got.low <= got.seconds <= got.high


def test_a_call_is_as_its_library_and_rows_correct_it_without_more_bytes_being_faster() -> None:
    found, _ = fit_points(list(memory_table()), H100)
    rate = H100.hbm_bytes_per_s
    asked = KernelShape("rmsnorm", bytes=1 << 23, library="torch")
    assert cost(found, asked).seconds == pytest.approx(5.0 * MICRO + asked.bytes / (0.3 * rate), rel=0.02)
    assert cost(found, replace(asked, library="")).seconds == pytest.approx(
        5.0 * MICRO + asked.bytes / (0.8 * rate), rel=0.02
    )
    slow = KernelRow(KernelShape("copy", bytes=1 << 24), "alone", 1e-4, 1e-4, 1e-4, "measured", "a row")
    sizes = [cost(found, KernelShape("copy", bytes=1 << i), slow).seconds for i in range(20, 31)]
    assert sizes == sorted(sizes)
    assert cost(found, slow.shape, slow).seconds == 1e-4
    assert sizes[3] > 2 * cost(found, KernelShape("copy", bytes=1 << 23)).seconds


def rates(gpu: str) -> list[dict[str, str]]:
    with (MEASURED / f"{gpu}-kernel-rates-2026-11-27.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
@pytest.mark.parametrize("gpu", ["h100", "h200"])
def test_our_own_measurements_meet_the_goals_on_what_was_left_out(gpu: str) -> None:
    """But for grouped FP8, whose library takes a kernel of a third of the rate for short reduced lengths."""
    _, judged = fit_points(rates(gpu), load_gpu(gpu))
    for each in judged:
        if each.name.startswith(("gemm", "attention")) and "fp8-row" not in each.name and not each.in_fit:
            assert each.error < each.goal + 0.002, each.line()
            assert each.error < each.roofline, each.line()
    assert sum(each.points for each in judged) > 250


def test_weight_gradients_and_attention_of_our_own_h100_meet_them() -> None:
    kept = [row for row in rates("h100") if row["variant"] == "wgrad" or row["op"] == "attention_fwd"]
    kept = [row for row in kept if row["library"] in ("cublas", "cudnn") and row["dtype"] == "bf16"]
    _, judged = fit_points(kept, H100)
    assert [each.error < each.goal and each.error < each.roofline / 3 for each in judged] == [True, True]
    assert all(each.inside > 0.85 for each in judged)
