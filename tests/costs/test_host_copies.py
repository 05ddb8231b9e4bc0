"""Copies to a host as priced for H200, beside our own measurement."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from hwprofiles.catalog import load_node
from simulator.costs.host import copy_cost, host_of
from simulator.scenario.assumptions import read_assumptions

MEASURED = Path(__file__).parents[2] / "hwprofiles" / "measurements" / "h200-host-copies-2026-11-27.csv"
STATED = read_assumptions()
LINK = STATED["host_link_frac"]


def measured() -> list[tuple[int, bool, float]]:
    """(GPUs that copy at once, whether both ways, bytes/s of one GPU one way)."""
    with MEASURED.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    columns = ("to_host_bytes_per_s", "to_device_bytes_per_s")
    return [(int(row["gpus"]), " " in row["ways"], float(row[key])) for row in rows for key in columns if row[key]]


def test_a_copy_one_way() -> None:
    """One GPU within 1 %, two at once (whose host had one socket) within 10 %."""
    for gpus, is_both, rate in measured():
        host = host_of(load_node("h200-x8"), gpus, LINK, STATED["host_memory_frac"])
        assert host is not None
        if not is_both:
            assert copy_cost(1e9, host).seconds == pytest.approx(1e9 / rate, rel=0.01 if gpus == 1 else 0.1)


def test_the_range_holds_every_measured_rate() -> None:
    stated = load_node("h200-x8").host_link_bytes_per_s
    assert stated is not None and LINK.low is not None and LINK.high is not None
    shares = [rate / stated for _, _, rate in measured()]
    assert LINK.low < min(shares) < max(shares) < LINK.high
    assert len(shares) == 8
