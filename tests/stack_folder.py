"""Stack folders as `moesim calibrate` writes them, small: for tests that give one by path."""

from __future__ import annotations

from pathlib import Path

from hwprofiles.kernels.rows import KERNEL_COLUMNS

PROVENANCE = """\
gpu: {gpu}
description: a test's measurement
software: torch 2.11.0
state: first_launches
calibration: {{date: {date}, device: NVIDIA H100 80GB HBM3, driver: "{driver}", power_limit_w: {watts}, torch: 2.11.0+cu130}}
sources:
  calibration: {{kind: measurement, where: a test}}
"""
SOURCE = "source: {kind: measurement, where: a test}"
GPU = """\
name: mycard
vendor: Acme
family: acme1
peak_flop_per_s: {bf16: 400 TFLOP/s}
hbm_bytes: 64 GB
hbm_bytes_per_s: 2 TB/s
num_sms: 100
tdp_w: 500
"""
ROWS = (
    {"op": "gemm", "variant": "fprop", "m": "4096", "n": "4096", "k": "4096", "seconds": "4e-4"},
    {"op": "rmsnorm", "bytes": "100000000", "seconds": "9e-5"},
)


def write_folder(
    folder: Path, *, gpu: str = "h100", date: str = "2026-11-20", driver: str = "580.1", watts: float = 700.0,
    scale: float = 1.0,
) -> Path:  # fmt: skip
    """A folder with two rows, a norm's share and AdamW's. scale: of the GEMM's seconds."""
    folder.mkdir(parents=True)
    (folder / "provenance.yaml").write_text(PROVENANCE.format(gpu=gpu, date=date, driver=driver, watts=watts))
    lines = [",".join((*KERNEL_COLUMNS, "library"))]
    for row in ROWS:
        seconds = float(row["seconds"]) * (scale if row["op"] == "gemm" else 1.0)
        cells = {"dtype": "bf16", "regime": "alone", "basis": "measured", "source": "calibration", **row}
        cells["seconds"] = repr(seconds)
        lines.append(",".join(cells.get(column, "") for column in (*KERNEL_COLUMNS, "library")))
    (folder / "kernels.csv").write_text("\n".join(lines) + "\n")
    (folder / "parameters.yaml").write_text(
        f'memory.adamw: {{value: 0.77, low: 0.7, high: 0.8, unit: "1", basis: interpolated, {SOURCE}}}\n'
    )
    return folder
