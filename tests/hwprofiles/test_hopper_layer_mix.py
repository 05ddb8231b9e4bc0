"""Law: watts of a layer follow from the energies of its kernels; the spread of chips is what the measured file gives."""

from __future__ import annotations

import csv
import re
from dataclasses import replace
from decimal import Decimal
from functools import cache
from math import sqrt
from pathlib import Path
from statistics import mean
from typing import Any

import pytest

import hwprofiles
from hwprofiles.calibration.layer_kernels import (
    DIM_QK,
    DIM_V,
    EXPERT_ROWS,
    HEADS,
    HIDDEN,
    LOCAL_EXPERTS,
    TOKENS,
    Gemm,
    layer_gemms,
)
from hwprofiles.catalog import load_gpu
from hwprofiles.kernels.shape import KernelShape
from hwprofiles.power.constants import power_constants
from hwprofiles.power.model import Chip, Load
from hwprofiles.stack_choice import load_stack
from hwprofiles.yaml_file import read_yaml

ROOT = Path(hwprofiles.__file__).parent
FILE = ROOT / "measurements" / "hopper-layer-mix-2026-11-24.csv"
ASSUMPTIONS = ROOT.parent / "simulator" / "scenario" / "assumptions.yaml"
CLASSES = ("gemm", "attention", "memory")
STATES = ("burst_4", "burst_8", "sustained")
POWER_LIMIT_W = 700.0


@cache
def chips() -> dict[str, dict[str, dict[str, Any]]]:
    """Chip → state → row; numbers as floats."""
    result: dict[str, dict[str, dict[str, Any]]] = {}
    with FILE.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            names = {name: row.pop(name) for name in ("gpu", "chip", "state")}
            result.setdefault(names["chip"], {})[names["state"]] = {
                "gpu": names["gpu"],
                **{column: float(value) for column, value in row.items()},
            }
    return result


def ratios(kernel_class: str, burst: str, gpu: str | None = None) -> list[float]:
    """Sustained time / time in a burst, of each chip (of one kind)."""
    column = f"{kernel_class}_s"
    return [
        states["sustained"][column] / states[burst][column]
        for states in chips().values()
        if gpu in (None, states["sustained"]["gpu"])
    ]


def pair_differences() -> dict[str, float]:
    """GPU kind → difference of its two chips' sustained total over their mean."""
    totals: dict[str, list[float]] = {}
    for states in chips().values():
        totals.setdefault(states["sustained"]["gpu"], []).append(states["sustained"]["total_s"])
    return {gpu: abs(first - second) / mean((first, second)) for gpu, (first, second) in totals.items()}


def coefficient_of_variation() -> float:
    """From pairs: the difference of two draws has twice their variance."""
    return sqrt(mean(d**2 / 2 for d in pair_differences().values()))


def as_stated(stated: float, derived: float) -> float:
    """`derived` rounded to the digits that `stated` shows."""
    exponent = Decimal(repr(stated)).as_tuple().exponent
    assert isinstance(exponent, int)
    return round(derived, -exponent)


def mix_load() -> tuple[float, float, float, float]:
    """FLOP of the block-scaled GEMMs, of attention forward and backward, and bytes of one pass."""
    gemm_flop = sum(2.0 * gemm.m * gemm.n * gemm.k for gemm in layer_gemms())
    moved = sum(gemm.m * gemm.k + gemm.n * gemm.k + 2 * gemm.m * gemm.n for gemm in layer_gemms())
    token = TOKENS * HEADS * 2
    moved += 3 * token * (2 * DIM_QK + 2 * DIM_V)
    moved += 8 * 4 * TOKENS * HIDDEN + 14 * 3 * TOKENS * 32768
    moved += (12 * 3 + 6 * 4) * LOCAL_EXPERTS * EXPERT_ROWS * HIDDEN
    return gemm_flop, attention("attention_fwd").attention_flop, attention("attention_bwd").attention_flop, float(moved)


def attention(op: str) -> KernelShape:
    return KernelShape(op, batch=1, seq=TOKENS, heads=HEADS, head_dim_qk=DIM_QK, head_dim_v=DIM_V)


@pytest.mark.parametrize("chip", "abcd")
def test_energies_of_the_kernels_give_the_watts_of_the_mix(chip: str) -> None:
    """The energies of single kernels on other chips, block-scaled GEMMs in their range: within 10 % of what the board says."""
    row = chips()[chip]["sustained"]
    constants = power_constants(load_stack(f"{row['gpu']}-public"), load_gpu(row["gpu"]))
    gemm_flop, forward, backward, moved = mix_load()
    gemm = KernelShape("gemm", "fprop", "fp8-block", 1, 1, 1)
    low, high = constants.by_key["gemm.fp8-block.pj_per_flop"].low, constants.by_key["gemm.fp8-block.pj_per_flop"].high
    model = constants.chip(POWER_LIMIT_W)
    speed = chips()[chip]["burst_4"]["total_s"] / row["total_s"]
    found = []
    for energy in (low, constants.value("gemm.fp8-block.pj_per_flop"), high):
        at = constants.at("gemm.fp8-block.pj_per_flop", energy)
        flop_j = at.flop_j(gemm, gemm_flop) + at.flop_j(attention("attention_fwd"), forward)
        flop_j += at.flop_j(attention("attention_bwd"), backward)
        found.append(
            Load(0.0, row["total_s"], flop_j * model.scale(speed), at.byte_j(moved)).mean_w(1.0, at_rest(model))
        )
    assert found == sorted(found)
    assert found[1] == pytest.approx(row["power_w"], rel=0.1)
    assert found[2] > 0.95 * row["power_w"]


def at_rest(chip: Chip) -> Chip:
    """The same at its reference speed: energies are scaled already."""
    return replace(chip, beta=0.0)


def test_the_spread_of_chips_follows_from_the_pairs() -> None:
    (assumption,) = [a for a in read_yaml(ASSUMPTIONS).data["assumptions"] if a["key"] == "gpu_speed_cv"]
    assert FILE.name in assumption["source"]
    assert assumption["value"] == as_stated(assumption["value"], coefficient_of_variation())
    assert assumption["low"] < assumption["value"] < assumption["high"]
    said = re.search(r"differ by ([0-9.]+) % and ([0-9.]+) %", " ".join(assumption["source"].split()))
    assert said is not None
    for text, gpu in zip(said.groups(), ("h100", "h200"), strict=True):
        assert float(text) == as_stated(float(text), 100 * pair_differences()[gpu])


def test_the_file_gives_these_values() -> None:
    means = [mean(ratios(name, "burst_8")) for name in CLASSES]
    highs = [max(ratios(name, "burst_4")) for name in CLASSES]
    assert means == pytest.approx([1.0402, 1.0468, 1.0265], abs=6e-5)
    assert highs == pytest.approx([1.0848, 1.1670, 1.0745], abs=6e-5)
    assert pair_differences() == pytest.approx({"h100": 0.01928, "h200": 0.00978}, abs=1e-5)
    assert coefficient_of_variation() == pytest.approx(0.01081, abs=1e-5)


def test_rows_are_one_a_chip_and_state() -> None:
    assert [(chip, *states) for chip, states in chips().items()] == [(chip, *STATES) for chip in "abcd"]
    assert len(FILE.read_text(encoding="utf-8").splitlines()) == 1 + 4 * len(STATES)
    described = read_yaml(FILE.with_suffix(".yaml")).data
    assert list(described["columns"]) == FILE.read_text(encoding="utf-8").partition("\n")[0].split(",")
    assert tuple(described["states"]) == STATES
    assert set(described["gpu"]) == set(pair_differences())


def test_rows_are_physical() -> None:
    for states in chips().values():
        clock_hz = load_gpu(states["sustained"]["gpu"]).boost_clock_hz
        for state, row in states.items():
            total_s = sum(row[f"{name}_s"] for name in CLASSES)
            assert row["total_s"] == pytest.approx(total_s, rel=1e-3 if state == "sustained" else 1e-5)
            assert 0 < row["power_w"] < POWER_LIMIT_W
            assert clock_hz is None or row["sm_clock_hz"] <= clock_hz
        assert states["sustained"]["power_w"] > 0.95 * POWER_LIMIT_W
        assert all(states["sustained"][f"{name}_s"] > states["burst_8"][f"{name}_s"] for name in CLASSES)


def test_files_name_no_card() -> None:
    for path in (FILE, FILE.with_suffix(".yaml")):
        assert not re.search(r"GPU-|[0-9a-f]{8}-[0-9a-f]{4}-", path.read_text(encoding="utf-8"))


def test_gemms_of_a_layer() -> None:
    gemms = layer_gemms()
    assert len(gemms) == 3 * 7 + 2 + 3 * 2 * LOCAL_EXPERTS == 47
    assert [gemm for gemm in gemms if not gemm.block_scaled] == [Gemm(TOKENS, 576, 7168), Gemm(TOKENS, 7168, 576)]
    assert EXPERT_ROWS * LOCAL_EXPERTS == 8 * TOKENS
    linear = gemms[:21] + gemms[23:]
    for fprop, dgrad, wgrad in zip(linear[::3], linear[1::3], linear[2::3], strict=True):
        assert (dgrad, wgrad) == (Gemm(fprop.m, fprop.k, fprop.n), Gemm(fprop.n, fprop.k, fprop.m))
