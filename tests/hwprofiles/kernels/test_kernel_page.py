"""Tables of the page of kernels: out of the measured file and of the runs at scale, nothing by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.calibration.kernel_bench import page
from hwprofiles.calibration.kernel_bench.rows import COLUMNS
from hwprofiles.calibration.kernel_bench.save import save_table

SCALE = (
    "variant,what,step_s,low_s,high_s,gpu_hours,cost_usd,mfu,bubble_s,exposed_comm_s,mean_w,gemm_s,expert_gemm_s,attention_s,"
    "memory_bound_s,fits\ntraining,kernels of old,18.5042,15.97,21.84,2489471,4978942,0.42024,1.38,1.92,546,4.17,4.33,2.49,"
    "3.82,True\n"
)
PRODUCT = {"kind": "dense", "name": "fprop 4096 rows, 4096 x 7168", "variant": "fprop", "m": 4096, "n": 4096, "k": 7168,
           "loads": "4096", "flop": 240518168576.0, "bytes": 92e6, "low": 1e-4, "high": 3e-4, "calls": 21, "clock_hz": 1.9e9,
           "gb_per_s": 400.0}  # fmt: skip


def row(library: str, seconds: float, **more: Any) -> dict[str, Any]:
    tflops = PRODUCT["flop"] / seconds / 1e12  # type: ignore[operator]
    return {**PRODUCT, "library": library, "seconds": seconds, "tflops": tflops, "peak_share": tflops / 1979.0, **more}


@pytest.fixture
def measured(tmp_path: Path) -> Path:
    streamed = {"kind": "streaming", "name": "quantise 8192 x 7168", "variant": "stream"}
    document = {
        "device": {
            "device": "NVIDIA H100 80GB HBM3", "driver": "580.1", "power_limit_w": 700.0, "torch": "2.11.0", "cuda": "13.0",
        },
        "date": "2026-11-28",
        "rows": [
            row("moesim", 2e-4, watts=650.0, watts_clock_hz=1.5e9), row("torch-block", 2.5e-4), row("moesim-triton", 4e-4),
            row("moesim", 5e-5, **streamed), row("copy", 4e-5, **streamed),
            {**PRODUCT, "library": "torch-unpadded", "note": "it cannot, for reasons"},
        ],
    }  # fmt: skip
    (tmp_path / "bench.json").write_text(json.dumps(document))
    save_table(tmp_path / "bench.json", tmp_path / "bench.csv")
    (tmp_path / "scale.csv").write_text(SCALE)
    return tmp_path / "bench.csv"


def test_blocks_are_made_of_the_files_and_the_rest_is_kept(measured: Path) -> None:
    text = "before\n\n<!-- block: dense -->\nstale\n<!-- end -->\n\nbetween\n\n<!-- block: at scale -->\n<!-- end -->\nafter\n"
    made = page.composed(text, measured, measured.with_name("scale.csv"))
    assert made.startswith("before\n") and "\nbetween\n" in made and made.endswith("after\n") and "stale" not in made
    assert (
        "| 4096 rows, 4096 x 7168 | 241 | 92 | 122 (FLOP) | 1,203 (61%) | 601 (30%) | 962 (49%) | 1.25 | 1.90 |" in made
    )
    assert "| kernels of old | 18.50 | 16.0 to 21.8 | 2,489 K | 4.98 M | 42.0% |" in made
    assert page.composed(made, measured, measured.with_name("scale.csv")) == made


def test_every_block_has_a_table(measured: Path) -> None:
    names = ("card", "summary", "streaming", "power")
    text = "".join(f"<!-- block: {name} -->\n<!-- end -->\n" for name in names)
    made = page.composed(text, measured, measured.with_name("scale.csv"))
    assert "NVIDIA H100 80GB HBM3, 700 W, driver 580.1, torch 2.11.0, CUDA 13.0" in made and "2026-11-28" in made
    assert "| dense fprop over cuBLAS block-wise | **1.25** | 1.25 | 1.25 | 1 | 1.00 |  |" in made
    assert "| quantise 8192 x 7168 | stream | 92 | 400 | 80% | 50.0 |" in made
    assert "| fprop 4096 rows, 4096 x 7168 | moesim | 650 | 1.50 |" in made


def test_errors_are_the_worst_of_each_kernel_and_format(tmp_path: Path) -> None:
    checked = {"variant": "fprop", "kernel": "cuda", "bound": 5e-4}
    of_format = {"variant": "fprop", "format": "bf16", "error": 2e-3, "bound": 5e-3}
    document = {
        "device": {"device": "NVIDIA H100 80GB HBM3"}, "rows": [], "formats": [of_format],
        "correct": [{**checked, "out": "fp32", "error": error} for error in (1e-4, 3e-4, 2e-4)],
    }  # fmt: skip
    (tmp_path / "bench.json").write_text(json.dumps(document))
    save_table(tmp_path / "bench.json", tmp_path / "h-own-kernel-errors.csv")
    made = page.composed(
        "<!-- block: errors -->\n<!-- end -->\n", tmp_path / "h-own-kernels.csv", tmp_path / "none.csv"
    )
    assert "| fprop | cuda, FP32 out | 3 | 0.0003 | 0.0005 |" in made
    assert "| fprop | format bf16, of the numbers before they are cast | 1 | 0.002 | 0.005 |" in made


def test_a_block_that_nothing_makes_and_a_missing_file_are_named(measured: Path, tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match=r"block: dens: nothing makes it.*did you mean dense"):
        page.composed("<!-- block: dens -->\n<!-- end -->\n", measured, measured.with_name("scale.csv"))
    text = "<!-- block: at scale -->\n<!-- end -->\n"
    (tmp_path / "page.md").write_text(text)
    assert page.main([str(tmp_path / "page.md"), str(measured), "--at-scale", str(tmp_path / "none.csv")]) == 2
    assert (tmp_path / "page.md").read_text() == text


def test_columns_of_the_measured_file_are_told() -> None:
    assert all(COLUMNS.values())


def test_the_committed_page_is_made_of_the_committed_files() -> None:
    """`python -m hwprofiles.calibration.kernel_bench.page docs/kernels.md` writes it."""
    text = (page.ROOT / "docs" / "kernels.md").read_text(encoding="utf-8")
    assert page.composed(text, page.MEASURED, page.AT_SCALE) == text
