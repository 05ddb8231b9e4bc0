"""The power part of a calibration: constants that made a sweep come back from it, and a board that does not answer is told."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest

from hwprofiles.calibration.machine import power, power_fit
from hwprofiles.calibration.nvml import PowerReading
from hwprofiles.calibration.power_kernels import PowerKernel
from hwprofiles.calibration.power_sweep import PowerCase
from hwprofiles.power.model import Chip, Load, solve
from hwprofiles.units import PICO

P0_W, BETA, LIMIT_W, WARM = 119.0, 1.25, 700.0, 0.98
BYTE_PJ = 126.0
AT_FULL_SPEED: dict[str, tuple[float, float, float, float]] = {
    power.BF16: (2 * 8192.0**3, 4e8, 1.39e-3, 0.95),
    power.FP8: (2 * 8192.0**3, 2.7e8, 0.763e-3, 0.5),
    "attention_fwd": (1.1e12, 5.4e8, 1.68e-3, 1.05),
    "attention_bwd": (2.7e12, 1.1e9, 5.05e-3, 1.2),
    power.COPY: (0.0, 5.4e8, 0.18e-3, 0.0),
}
"""Name → FLOP, bytes, seconds of first launches, pJ a FLOP at that speed."""


def swept() -> list[dict[str, Any]]:
    """Rows that a chip of these constants gives."""
    chip = Chip(P0_W, BETA, 1.0, LIMIT_W, WARM)
    rows: list[dict[str, Any]] = [
        {"name": power.REST, "parts": "", "watts": P0_W, "limit_w": LIMIT_W, "usual_w": LIMIT_W}
    ]
    for case in power.cases(list(AT_FULL_SPEED)):
        parts = [(AT_FULL_SPEED[name], count) for name, count in case.parts]
        flop, moved = (sum(part[idx] * count for part, count in parts) for idx in (0, 1))
        compute_s = sum(part[2] * count for part, count in parts if part[0])
        memory_s = sum(part[2] * count for part, count in parts if not part[0])
        flop_j = sum(part[0] * part[3] * PICO * count for part, count in parts)
        idle_s = (compute_s + memory_s) * (1 / case.duty - 1) * 1.05
        load = Load(compute_s, memory_s + idle_s, flop_j, BYTE_PJ * PICO * moved)
        speed = solve(load, chip)
        rows.append(
            {
                "name": case.name, "parts": " + ".join(f"{name}*{count}" for name, count in case.parts), "flop": flop,
                "bytes_moved": moved, "first_s": compute_s + memory_s, "sustained_s": load.seconds(speed),
                "busy_s": load.seconds(speed) - idle_s, "watts": load.mean_w(speed, chip), "limit_w": LIMIT_W,
                "usual_w": LIMIT_W,
            }
        )  # fmt: skip
    return rows


def test_the_constants_of_a_chip_come_back() -> None:
    found = power_fit.parameters(swept(), "made up", "2026-11-27")
    assert found["power.idle_share"].value == pytest.approx(P0_W / LIMIT_W)
    assert found["power.beta"].value == BETA
    assert found["power.warm_speed"].value == pytest.approx(WARM, abs=0.003)
    assert found["power.memory.pj_per_byte"].value == pytest.approx(BYTE_PJ, rel=0.01)
    reference = found["power.reference_speed"].value
    assert 0.8 < reference < 0.97
    for key, name in (("gemm.bf16", power.BF16), ("gemm.fp8", power.FP8), ("attention_bwd", "attention_bwd")):
        energy = found[f"power.{key}.pj_per_flop"]
        assert energy.value == pytest.approx(AT_FULL_SPEED[name][3] * reference**BETA, rel=0.01)
        assert energy.low < energy.value < energy.high
        assert energy.basis == "measured"


def test_mixes_judge_and_are_not_fitted() -> None:
    rows = swept()
    told = power_fit.parameters(rows, "made up", "2026-11-27")["power.beta"].source.note
    seconds = [abs(float(each)) for each in re.findall(r"([-+][\d.]+)% in seconds", told)]
    assert len(seconds) == 2
    assert max(seconds) <= 0.2
    for row in rows:
        if row["name"].startswith(power.BLIND):
            row["sustained_s"], row["busy_s"] = 1.2 * row["sustained_s"], 1.2 * row["busy_s"]
    wrong = power_fit.parameters(rows, "made up", "2026-11-27")
    assert wrong["power.beta"].value == BETA
    assert "mix layer bf16 -16." in wrong["power.beta"].source.note
    assert wrong["power.memory.pj_per_byte"].high > 1.15 * BYTE_PJ


def test_too_few_rows_give_nothing() -> None:
    rows = swept()
    assert power_fit.parameters([], "", "") == {}
    assert power_fit.parameters(rows[:2], "made up", "2026-11-27") == {}


class Counting:
    """A chip whose counter stands still, or that fails behind some readings."""

    def __init__(self, step_j: float, readings: int) -> None:
        self.time_s, self.energy_j, self.step_j, self.left = 0.0, 0.0, step_j, readings

    def now(self) -> float:
        return self.time_s

    def sleep(self, seconds: float) -> None:
        self.time_s += seconds

    def read(self) -> PowerReading:
        self.left -= 1
        if self.left < 0:
            raise RuntimeError("nvmlDeviceGetTotalEnergyConsumption: NVML error 15")
        self.energy_j += self.step_j
        return PowerReading(self.energy_j, 1.5e9, 60.0)

    def launch(self, case: PowerCase, rounds: int) -> float:
        return 0.01 * rounds

    def finish(self, launched: float) -> float:
        self.time_s += launched
        return launched


KERNELS: Mapping[str, PowerKernel] = {
    name: PowerKernel(name, name.partition(" ")[0], lambda: None, 1e12, 1e8) for name in (power.BF16, power.COPY)
}


def test_what_is_done_is_not_measured_again() -> None:
    rows: list[Any] = []
    done = {power.BF16, power.COPY, power.REST}
    assert power.sweep(Counting(5.0, 10**6), KERNELS, (700.0, 700.0), rows.append, done, 1.0) == ()
    assert [row["name"] for row in rows] == [f"{power.BF16} idle {share:g}" for share in power.IDLE]
    assert all(set(row) == set(power.COLUMNS) for row in rows)
    assert rows[-1]["idle_share"] == pytest.approx(0.6, abs=0.01)


def test_a_board_that_fails_or_stands_still_is_told_and_rows_stay() -> None:
    rows: list[Any] = []
    left = power.sweep(Counting(5.0, 30), KERNELS, (700.0, 700.0), rows.append, (), 1.0)
    assert [row["name"] for row in rows] == [power.REST, power.BF16]
    assert all("NVML error 15" in each for each in left)
    assert len(left) == len(power.cases(KERNELS)) - 1
    still = power.sweep(Counting(0.0, 10**6), KERNELS, (700.0, 700.0), rows.append, {power.REST}, 1.0)
    assert len(still) == 1
    assert "stands still" in still[0]


def test_without_the_drivers_library_it_is_left_out() -> None:
    torch = pytest.importorskip("torch")
    rows: list[Any] = []
    assert "two minutes" in power.measure(torch.device("cpu"), "quick", rows.append)[0]
    if not torch.cuda.is_available():
        assert "NVML" in power.measure(torch.device("cuda", 0), "full", rows.append)[0]
    assert rows == []
