"""Reads GEMMs that kernel_rates measured, from the files of hwprofiles/measurements that are committed."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean, pstdev
from typing import Final

from hwprofiles.calibration.gemm_fit import GemmPoint
from hwprofiles.kernels.gemm_formula import GemmSize

FOLDER: Final = Path(__file__).parents[1] / "measurements"
DATE: Final = "2026-11-27"
STATE: Final = "benchmark_loop"
WRITTEN: Final = {"cublas-bf16-out": "bf16", "cublas-fp32-out": "fp32"}
"""Library cell → result of a weight gradient that is written and not added to; grouped ones and loops of them write BF16."""


def rate_points(gpu: str, dtype: str, library: str, *variants: str) -> list[GemmPoint]:
    """GEMMs of a GPU's file in the benchmark loop. library: its cell (cublas, grouped, loop …)."""
    points = []
    for row in _rows(gpu):
        if (row["dtype"], row["library"]) == (dtype, library) and row["variant"] in variants:
            counts = [int(count) for count in row["loads"].split()]
            spread = pstdev(counts) / fmean(counts) if len(counts) > 1 else 0.0
            m, n, k, groups = (int(row[name]) for name in ("m", "n", "k", "groups"))
            result = ""
            if row["variant"] == "wgrad":
                result = WRITTEN.get(library, "" if row["part"] == "gemm" else "bf16")
            size = GemmSize(m, n, k, groups, row["variant"], dtype, spread, result)
            points.append(GemmPoint(size, float(row["seconds"])))
    return points


def _rows(gpu: str) -> Iterator[dict[str, str]]:
    with (FOLDER / f"{gpu}-kernel-rates-{DATE}.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["part"] in ("gemm", "grouped") and row["seconds"]]
    return (row for row in rows if row["state"] == STATE)
