"""Law: the power sweep measures what a chip of known physics does: its settled speed, watts and idle share."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hwprofiles.calibration import power_sweep
from hwprofiles.calibration.command import write_table
from hwprofiles.calibration.nvml import PowerReading
from hwprofiles.calibration.power_kernels import PowerKernel
from hwprofiles.calibration.power_sweep import COLUMNS, PowerCase, PowerRow, cases, observe, still
from hwprofiles.yaml_file import read_yaml

KERNELS = {
    name: PowerKernel(name, "bf16_gemm", lambda: None, 1e12, 1e8)
    for name in ("bf16_gemm 8192x8192x8192", "copy 256 MiB")
}
SECONDS = {"bf16_gemm 8192x8192x8192": 1.4e-3, "copy 256 MiB": 0.2e-3}
SLOWED_FROM_S = 1.0


@dataclass
class FakeChip:
    """Its first second is at burst speed, then everything takes 1.2 times as long; 700 W busy, 130 W else."""

    time_s: float = 0.0
    energy_j: float = 0.0
    busy_s: float = 0.0

    def now(self) -> float:
        return self.time_s

    def sleep(self, seconds: float) -> None:
        self.time_s += seconds
        self.energy_j += 130.0 * seconds

    def read(self) -> PowerReading:
        return PowerReading(self.energy_j, 1.5e9, 60.0)

    def launch(self, case: PowerCase, rounds: int) -> Any:
        return rounds * sum(SECONDS[name] * count for name, count in case.parts)

    def finish(self, launched: Any) -> float:
        seconds = float(launched) * (1.2 if self.busy_s >= SLOWED_FROM_S else 1.0)
        self.busy_s += seconds
        self.time_s += seconds
        self.energy_j += 700.0 * seconds
        return seconds


def measured(case: PowerCase, seconds: float = 4.0) -> PowerRow:
    return observe(FakeChip(), case, KERNELS, seconds)


def test_a_kernel_alone_is_timed_fresh_and_settled() -> None:
    row = measured(PowerCase("gemm", (("bf16_gemm 8192x8192x8192", 1),)))
    assert row.first_s == pytest.approx(1.4e-3)
    assert row.at_0p05_s == row.at_0p2_s == row.at_0p5_s == pytest.approx(1.4e-3)
    assert row.sustained_s == row.busy_s == pytest.approx(1.2 * 1.4e-3)
    assert row.watts == pytest.approx(700.0)
    assert (row.duty, row.flop, row.bytes_moved) == (1.0, 1e12, 1e8)


def test_idle_time_is_as_asked_and_told() -> None:
    row = measured(PowerCase("duty", (("bf16_gemm 8192x8192x8192", 1),), duty=0.5))
    assert row.duty == pytest.approx(0.5)
    assert row.watts == pytest.approx(0.5 * (700.0 + 130.0), rel=0.01)
    assert row.sustained_s == pytest.approx(2 * row.busy_s)
    given = measured(PowerCase("idle", (("bf16_gemm 8192x8192x8192", 2),), idle_s=0.8e-3))
    assert given.sustained_s - given.busy_s == pytest.approx(0.8e-3)
    assert given.flop == 2e12


def test_a_mix_sums_its_kernels() -> None:
    row = measured(PowerCase("mix", (("bf16_gemm 8192x8192x8192", 1), ("copy 256 MiB", 4))))
    assert row.first_s == pytest.approx(2.2e-3)
    assert row.flop == 5e12


def test_a_load_too_short_to_settle_is_refused() -> None:
    with pytest.raises(RuntimeError, match="too few blocks"):
        measured(PowerCase("gemm", (("bf16_gemm 8192x8192x8192", 1),)), seconds=0.05)


def test_cases_use_only_what_the_gpu_can() -> None:
    planned = cases(list(KERNELS))
    assert {name for case in planned for name, _ in case.parts} == set(KERNELS)
    assert [case.name for case in planned[:2]] == list(KERNELS)
    assert sum(case.duty < 1.0 for case in planned) == 4
    assert len({case.name for case in planned}) == len(planned)


def test_the_file_is_read_back_and_described(tmp_path: Path) -> None:
    chip = FakeChip()
    rows = [still(chip, "rest", 4.0, chip.sleep), measured(PowerCase("gemm", (("bf16_gemm 8192x8192x8192", 1),)))]
    out = tmp_path / "power.csv"
    write_table(out, rows, {"gpu": "a GPU", "power_limit_w": 700.0}, COLUMNS)
    with out.open(encoding="utf-8", newline="") as file:
        read = list(csv.DictReader(file))
    assert [row["case"] for row in read] == ["rest", "gemm"]
    assert float(read[0]["watts"]) == pytest.approx(130.0)
    assert float(read[1]["sustained_s"]) == pytest.approx(1.68e-3)
    described = read_yaml(out.with_suffix(".yaml")).data
    assert list(described["columns"]) == list(read[0])
    assert described["power_limit_w"] == 700.0


def test_without_a_gpu_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("has a GPU")
    assert power_sweep.main(["--out", str(tmp_path / "never.csv")]) == 2
    told = capsys.readouterr().err
    assert "torch finds 0 GPUs" in told
    assert len(told.splitlines()) == 1
    assert not list(tmp_path.iterdir())
