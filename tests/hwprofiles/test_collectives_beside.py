"""Law: measured collectives and kernels beside one another keep to what the links, the chip and common sense allow."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

import hwprofiles
from hwprofiles.catalog import load_gpu, load_node
from hwprofiles.units import MEBI

FOLDER = Path(hwprofiles.__file__).parent / "measurements"
Row = dict[str, str]


def rows_of(name: str) -> list[Row]:
    with (FOLDER / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


NCCL = rows_of("h200x8-nccl-2026-11-27.csv")
BESIDE = [row for row in rows_of("h200x8-beside-2026-11-27.csv") if row["name"] != "collective_alone"]
OPS = ("all_gather", "reduce_scatter", "all_reduce")


def sent_bytes(row: Row) -> float:
    """Of one GPU in a ring."""
    ranks = int(row["ranks"])
    return (2 if row["op"] == "all_reduce" else 1) * (ranks - 1) / ranks * int(row["bytes"])


@pytest.mark.parametrize("row", NCCL, ids=lambda row: f"{row['run']}-{row['op']}-{row['bytes']}-{row['ranks']}")
def test_no_collective_is_faster_than_the_links(row: Row) -> None:
    assert sent_bytes(row) / float(row["seconds"]) < load_node("h200-x8").scale_up_bytes_per_s


def test_two_runs_agree_where_bytes_bind() -> None:
    first, second = (
        {(r["op"], r["bytes"], r["ranks"]): float(r["seconds"]) for r in NCCL if r["run"] == n} for n in "12"
    )
    large = [key for key in first if int(key[1]) >= 64 * MEBI]
    assert len(large) == 27
    for key in large:
        assert first[key] == pytest.approx(second[key], rel=0.02), key


def test_more_bytes_reach_more_of_the_link() -> None:
    for op in OPS:
        for ranks in ("2", "4", "8"):
            rows = [r for r in NCCL if (r["run"], r["op"], r["ranks"]) == ("2", op, ranks)]
            rates = [sent_bytes(r) / float(r["seconds"]) for r in rows if int(r["bytes"]) >= 4 * MEBI]
            assert rates == sorted(rates)


def test_kernels_lose_beside_collectives_and_never_gain() -> None:
    assert len(BESIDE) == 30
    for row in BESIDE:
        alone_s = min(float(row["alone_s"]), float(row["alone_again_s"]))
        for op in OPS:
            assert 1.0 < float(row[f"beside_{op}_s"]) / alone_s < 1.85, (row["name"], op)


def test_no_kernel_is_faster_than_the_datasheet() -> None:
    gpu = load_gpu("h200")
    for row in BESIDE:
        floor_s = float(row["flop"] or 0) / gpu.peak_flop_per_s["bf16"]
        floor_s = max(floor_s, float(row["bytes"] or 0) / gpu.hbm_bytes_per_s)
        assert float(row["alone_s"]) > floor_s
