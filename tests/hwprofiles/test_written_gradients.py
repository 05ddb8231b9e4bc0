"""Weight gradients that are written, in BF16 or FP32, and not added to a sum: constants, rows and keys of their own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hwprofiles.calibration.calibrate.rows import kernel_rows
from hwprofiles.calibration.fits.gemm import families, fitted
from hwprofiles.calibration.fits.parameter import Origin
from hwprofiles.calibration.rates.case import COLUMNS
from hwprofiles.catalog import load_gpu
from hwprofiles.kernels.gemm import gemm_constants
from hwprofiles.kernels.gemm_formula import GemmConstants, GemmLimits, GemmSize, gemm_seconds
from hwprofiles.kernels.rows import KernelRow
from hwprofiles.kernels.shape import KernelShape
from hwprofiles.kernels.table import kernel_seconds
from hwprofiles.parameter_keys import gemm_stem, key_problem, part_problems
from tests.hwprofiles.test_kernel_table import GPU, parameter, row, stack

ADDED = KernelShape("gemm", "wgrad", "bf16", m=4096, n=7168, k=2048)
WRITTEN = replace(ADDED, result="bf16")
OF_PASS = {
    "t0_s": 2e-6,
    "t_tile_s": 8e-7,
    "st_bytes_per_s": 3e10,
    "l2_bytes_per_s": 9e10,
    "eta": 0.85,
    "ecap": 0.8,
    "eb": 0.7,
}
OWN = {"eta": 0.5, "st_bytes_per_s": 6e10}


def keys(stem: str, values: dict[str, float]) -> dict[str, Any]:
    residual = {f"{stem}.residual": parameter(1.0, 0.9, 1.1)}
    return {**{f"{stem}.{name}": parameter(value) for name, value in values.items()}, **residual}


BOTH = {**keys("gemm.bf16.wgrad", OF_PASS), **keys("gemm.bf16.wgrad.bf16-out", OWN)}


def test_constants_of_a_result_go_before_those_of_its_pass() -> None:
    """What they lack is the pass's; other results, passes and grouped products have nothing of them."""
    for result, variant, is_grouped, eta in (
        ("bf16", "wgrad", False, 0.5), ("", "wgrad", False, 0.85), ("fp32", "wgrad", False, 0.85),
        ("bf16", "wgrad", True, 0.85),
    ):  # fmt: skip
        found = gemm_constants(stack(**BOTH), "bf16", variant, is_grouped=is_grouped, result=result)
        assert found is not None and (found[0].eta, found[0].eb) == (eta, 0.7)


def test_rows_of_another_result_say_nothing_of_a_written_one() -> None:
    """An added gradient of a quarter of the rows is slower than a written one of all: no bound of it."""
    slow, own = row(replace(ADDED, k=512), 1.0, "alone"), row(replace(WRITTEN, k=512), 1e-4, "alone")

    def seconds(shape: KernelShape, *rows: KernelRow) -> float:
        return kernel_seconds(shape, stack(*rows, **BOTH), GPU, "alone").seconds

    assert seconds(WRITTEN, own, slow) == seconds(WRITTEN, own) < 0.01
    assert seconds(ADDED, own, slow) == seconds(ADDED, slow) >= 1.0
    assert seconds(ADDED, own) == seconds(ADDED)


def test_a_stack_without_written_ones_tells_of_them_by_those_that_are_added() -> None:
    bare = stack(row(ADDED, 1.0, "alone"), **keys("gemm.bf16.wgrad", OF_PASS))
    assert kernel_seconds(WRITTEN, bare, GPU, "alone").seconds > 0.1


def test_keys_of_a_result_are_known_and_belong_to_their_pass() -> None:
    stem, of_pass = gemm_stem("gemm.bf16.wgrad.bf16-out.eta"), gemm_stem("gemm.bf16.wgrad.eta")
    assert (stem.variant, stem.result, of_pass.result) == ("wgrad", "bf16-out", "")
    assert of_pass.covers(stem) and of_pass.backs(stem) and not stem.covers(of_pass) and not stem.backs(of_pass)
    assert key_problem("gemm.bf16.wgrad.bf16-out.eta") is None and "unknown part" in str(
        key_problem("gemm.bf16.wgrad.out.eta")
    )
    assert not list(part_problems(BOTH)) and list(part_problems(keys("gemm.bf16.wgrad.bf16-out", OWN)))


def test_a_calibration_fits_and_lists_them_beside_those_that_are_added() -> None:
    gpu, constants = load_gpu("h100"), GemmConstants(2e-6, 8e-7, 3e10, 9e10, eta=0.85, ecap=0.8, eb=0.7)
    limits = GemmLimits(gpu.peak_flop_per_s["bf16"], gpu.hbm_bytes_per_s, gpu.num_sms, gpu.num_sms)
    rows = []
    for library, result in (("cublas", ""), ("cublas-bf16-out", "bf16")):
        for m, n in ((4096, 7168), (2048, 4096), (8192, 2048), (1024, 1024)):
            for k in (1024, 4096):
                seconds = gemm_seconds(GemmSize(m, n, k, 1, "wgrad", "bf16", 0.0, result), constants, limits)
                cells = dict.fromkeys((*COLUMNS, "note", "sms", "beside"), "") | {
                    "part": "gemm", "op": "gemm", "variant": "wgrad", "dtype": "bf16", "library": library, "m": str(m),
                    "n": str(n), "k": str(k), "groups": "1", "state": "first_launches", "seconds": f"{seconds:.6g}",
                    "low": f"{seconds:.6g}", "high": f"{seconds:.6g}", "launches": "1",
                }  # fmt: skip
                rows.append(cells)
    assert [family.library for family in families(rows, gpu)] == ["cublas", "cublas-bf16-out"]
    found, judged = fitted(rows, gpu, Origin("here", "2026-11-28"))
    assert {"gemm.bf16.wgrad.eta", "gemm.bf16.wgrad.bf16-out.eta"} <= found.keys()
    assert any(each.name.startswith("gemm.bf16.wgrad.bf16-out,") for each in judged)
    listed, left = kernel_rows(rows, gpu, "calibrate")
    assert not left and sorted(each["result"] for each in listed) == [""] * 8 + ["bf16"] * 8
    assert {each["library"] for each in listed} == {""}
