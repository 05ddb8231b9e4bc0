"""The GPU that a calibration is of, and the rows that its stack gets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from hwprofiles.calibration.calibrate import refit, writer
from hwprofiles.calibration.calibrate.facts import Facts
from hwprofiles.calibration.calibrate.record import gpu_of, slug
from hwprofiles.calibration.calibrate.rows import kernel_rows
from hwprofiles.calibration.calibrate.session import POINT_COLUMNS
from hwprofiles.catalog import gpu_of_device, list_names, load_gpu
from hwprofiles.record_file import read_record
from hwprofiles.stack_records import StackProvenance

CUDA = SimpleNamespace(type="cuda", index=0)


def facts(device: str, power_limit_w: float = 650.0) -> Facts:
    return Facts(device, "full", ("gemm",), "2.11", "13.0", "580", power_limit_w, 1.9e9, 1, "Xeon")


def point(**cells: Any) -> dict[str, str]:
    return dict.fromkeys(POINT_COLUMNS, "") | {name: str(cell) for name, cell in cells.items()}


def gemm(seconds: float, state: str = "first_launches", **more: Any) -> dict[str, str]:
    sizes = {"m": 4096, "n": 4096, "k": 4096, "groups": 1, "flop": 2.0 * 4096**3}
    times = {"seconds": seconds, "low": 0.99 * seconds, "high": 1.2 * seconds}
    return point(op="gemm", variant="fprop", dtype="bf16", library="cublas", state=state, **sizes, **times) | {
        name: str(cell) for name, cell in more.items()
    }


def test_gpus_are_known_by_what_drivers_call_them() -> None:
    """Each name is of one GPU, and what is measured on it is a stack of the catalogue's."""
    names = [name for gpu in list_names("gpus") for name in load_gpu(gpu).device_names]
    assert len(names) == len(set(names)) > 5
    assert gpu_of_device("NVIDIA H100 80GB HBM3") == "h100"
    found, is_known = gpu_of(facts("NVIDIA H200"), CUDA, [], None)
    assert (found, is_known) == (load_gpu("h200"), True)
    assert gpu_of(facts("NVIDIA H999"), CUDA, [], "b200") == (load_gpu("b200"), True)


def test_an_unknown_gpu_is_what_it_says_and_what_it_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    properties = SimpleNamespace(
        major=9, minor=0, total_memory=int(90e9), multi_processor_count=100, L2_cache_size=40 * 2**20
    )
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
    rows = [
        gemm(1e-3), gemm(2e-3), gemm(0.25e-3, dtype="fp8-row"),
        point(op="copy", dtype="bf16", bytes=2 * 10**9, seconds=1e-3), point(op="copy", dtype="bf16", note="no memory"),
    ]  # fmt: skip
    found, is_known = gpu_of(facts("NVIDIA H999 (test)"), CUDA, rows, None)
    assert not is_known
    assert (found.name, found.family, found.num_sms, found.tdp_w) == ("nvidia-h999-test", "hopper", 100, 650.0)
    assert found.peak_flop_per_s["bf16"] == pytest.approx(2.0 * 4096**3 / 1e-3, rel=0.01)
    assert found.peak_flop_per_s["fp8"] == pytest.approx(2.0 * 4096**3 / 0.25e-3, rel=0.01)
    assert found.hbm_bytes_per_s == pytest.approx(2e12)
    assert found.unsourced() == ()
    assert found.sources["peak_flop_per_s"].kind == "measurement"
    kept, left = kernel_rows(rows, found, "calibrate")
    assert {row["op"] for row in kept} == {"gemm", "copy"} and not left


@pytest.mark.parametrize(("device", "name"), [("AMD EPYC 9654 96-Core", "amd-epyc-9654-96-core"), ("", "device")])
def test_names_are_the_catalogue_s(device: str, name: str) -> None:
    assert slug(device) == name


def test_a_row_is_the_shorter_state_of_what_is_sound() -> None:
    """Not the flagged one, not of other libraries, fewer SMs or uneven loads; what beats the peak is left out and named."""
    gpu = load_gpu("h100")
    points = [
        gemm(300e-6), gemm(290e-6, "benchmark_loop"), gemm(200e-6, "benchmark_loop", note="flagged: the SM clock moved"),
        gemm(400e-6, library="cublas-fp32-out"), gemm(250e-6, sms=100), gemm(250e-6, beside="copy"),
        gemm(300e-6, op="grouped_gemm", library="grouped", groups=2, loads="3000 1096"),
        gemm(10e-6, m=4095),
    ]  # fmt: skip
    (row,), left = kernel_rows(points, gpu, "calibrate")
    assert (row["seconds"], row["library"], row["state"]) == ("0.00029", "", "first_launches")
    two, _ = kernel_rows(
        [*points, gemm(280e-6, library="moesim"), gemm(1e-6, library="moesim-limited", sms=100)], gpu, "x"
    )
    assert [(row["seconds"], row["library"]) for row in two] == [("0.00029", ""), ("0.00028", "moesim")]
    (told,) = left
    assert "above the dense peak" in told and "4095" in told


def test_a_flagged_point_is_in_no_fit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Beside it stand sound ones, a doubtful one among them."""
    seen: list[str] = []

    def fit(points: Sequence[Mapping[str, str]], *_: Any) -> tuple[dict[str, Any], list[Any]]:
        seen.extend(row["seconds"] for row in points)
        return {}, []

    monkeypatch.setattr(writer, "fit_points", fit)
    points = [gemm(3e-4), gemm(2e-4, note="flagged: the SM clock moved"), gemm(4e-4, note="the clock is not known")]
    writer.write_stack(tmp_path, writer.Measured(points, load_gpu("h100"), facts("NVIDIA H100"), "2026-11-27"))
    assert seen == ["0.0003", "0.0004"]


def test_memory_rows_are_of_one_library_and_one_format() -> None:
    """triton's serve where nobody names a library; others keep their names; several formats of an op are for the fit alone."""
    copies = [
        point(
            op="quantise", dtype="fp8-block", library=name, bytes=10**8, launches=1, seconds=s, low=s, high=s, state=""
        )
        for name, s in (("torch", 2e-4), ("triton", 1e-4))
    ]
    mixed = [
        point(op="fill", dtype=name, library="torch", bytes=10**8, launches=1, seconds=1e-4, low=1e-4, high=1e-4)
        for name in ("bf16", "fp32")
    ]
    chain = [
        point(op="rope", dtype="bf16", library="torch", bytes=10**8, launches=7, seconds=1e-4, low=1e-4, high=1e-4)
    ]
    rows, left = kernel_rows([*copies, *mixed, *chain], load_gpu("h100"), "calibrate")
    assert [(row["op"], row["library"]) for row in rows] == [("quantise", ""), ("quantise", "torch")]
    assert not left


def test_provenance_tells_the_rows_of_the_table_and_what_measured(tmp_path: Path) -> None:
    """A folder fitted anew by another version says still which one measured."""
    measured = writer.Measured([], load_gpu("h100"), facts("NVIDIA H100"), "2026-11-27", program="moesim 0.0.1")
    writer.write_provenance(tmp_path, measured, 17)
    stated = read_record(tmp_path / "provenance.yaml", StackProvenance).calibration
    assert stated is not None and (stated.kernel_rows, stated.program) == (17, "moesim 0.0.1")
    assert refit.measured_by(tmp_path) == "moesim 0.0.1"
    writer.write_provenance(tmp_path, replace(measured, program=""), 0)
    again = read_record(tmp_path / "provenance.yaml", StackProvenance).calibration
    assert again is not None and again.program == writer.program() and again.kernel_rows == 0
    (tmp_path / "provenance.yaml").unlink()
    assert not refit.measured_by(tmp_path)
