"""Reads GEMMs that were measured here, from the files of hwprofiles/measurements that are committed."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from math import inf
from pathlib import Path
from statistics import fmean, pstdev
from typing import Final

from hwprofiles.calibration.gemm_fit import GemmPoint
from hwprofiles.kernels.gemm_formula import GemmSize

FOLDER: Final = Path(__file__).parents[1] / "measurements"
DATE: Final = "2026-11-27"
WRITTEN: Final = {"cublas-bf16-out": "bf16", "cublas-fp32-out": "fp32"}
"""Library cell → result of a weight gradient that is written and not added to; grouped ones and loops of them write BF16."""


def rate_points(gpu: str, dtype: str, library: str, *variants: str) -> list[GemmPoint]:
    """GEMMs of a GPU's file as their first launches are. library: its cell (cublas, grouped, loop …).

    The shorter of both states: in the 50 ms of the loop no limit of power has acted yet on short kernels, whose first launches
    hold time of the host; on long ones it has begun to.
    """
    points: dict[GemmSize, float] = {}
    for row in _rows(gpu):
        if (row["dtype"], row["library"]) == (dtype, library) and row["variant"] in variants:
            size = _size(row, library)
            points[size] = min(float(row["seconds"]), points.get(size, inf))
    return [GemmPoint(size, seconds) for size, seconds in points.items()]


def _size(row: Mapping[str, str], library: str) -> GemmSize:
    counts = [int(count) for count in row["loads"].split()]
    spread = pstdev(counts) / fmean(counts) if len(counts) > 1 else 0.0
    m, n, k, groups = (int(row[name]) for name in ("m", "n", "k", "groups"))
    result = ""
    if row["variant"] == "wgrad":
        result = WRITTEN.get(library, "" if row["part"] == "gemm" else "bf16")
    return GemmSize(m, n, k, groups, row["variant"], row["dtype"], spread, result)


def _rows(gpu: str) -> Iterator[dict[str, str]]:
    with (FOLDER / f"{gpu}-kernel-rates-{DATE}.csv").open(encoding="utf-8", newline="") as file:
        yield from (row for row in csv.DictReader(file) if row["part"] in ("gemm", "grouped") and row["seconds"])
