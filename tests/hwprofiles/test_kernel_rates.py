"""The program that times kernels, rehearsed on the processor: what it asks for, and what it writes."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

pytest.importorskip("torch")

from hwprofiles.calibration import kernel_rates


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    monkeypatch.setattr(kernel_rates, "LOOP_S", 0.0)
    path = tmp_path / "rates.csv"
    assert kernel_rates.main(["--out", str(path), "--quick", "--device", "cpu"]) == 0
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_each_kernel_has_both_states_or_a_reason(rows: list[dict[str, str]]) -> None:
    """Of every kind; seconds within their low and high."""
    cases: dict[tuple[str, ...], list[dict[str, str]]] = {}
    for row in rows:
        cases.setdefault(tuple(row[column] for column in kernel_rates.COLUMNS), []).append(row)
    assert {row["part"] for row in rows if row["seconds"]} <= set(kernel_rates.KINDS)
    for found in cases.values():
        if found[0]["note"]:
            assert len(found) == 1
            assert not found[0]["seconds"]
        else:
            assert [row["state"] for row in found] == ["first_launches", "benchmark_loop"]
            assert all(0 < float(row["low"]) <= float(row["seconds"]) <= float(row["high"]) for row in found)


def test_a_run_cut_short_keeps_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "rates.csv"
    assert kernel_rates.main(["--out", str(path), "--quick", "--device", "cpu", "--limit", "-1"]) == 0
    assert len(path.read_text(encoding="utf-8").splitlines()) == 1


def test_the_processor_only_rehearses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert kernel_rates.main(["--out", str(tmp_path / "rates.csv"), "--device", "cpu"]) == 2
    assert "--quick" in capsys.readouterr().err
