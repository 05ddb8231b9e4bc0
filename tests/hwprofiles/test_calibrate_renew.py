"""Kernels that are measured again take the place of a folder's older ones: of their kinds, of its GPU, and of no others."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from hwprofiles.calibration.__main__ import main
from hwprofiles.calibration.calibrate.renew import merged
from hwprofiles.calibration.errors import CalibrationError

STACK = Path(__file__).parents[2] / "hwprofiles" / "stacks" / "h100-measured"
GPU = "NVIDIA H100 80GB HBM3"
COLUMNS = ("part", "op", "variant", "dtype", "library", "beside", "m", "seconds", "low", "high", "at_s", "note")


def row(library: str, m: int, seconds: str = "0.5", **more: Any) -> dict[str, str]:
    cells = {"part": "gemm", "op": "gemm", "variant": "fprop", "dtype": "fp8-block", "library": library, "m": str(m)}
    times = {"seconds": seconds, "low": seconds, "high": seconds, "at_s": "3"}
    return dict.fromkeys(COLUMNS, "") | cells | times | more


def file_of(folder: Path, *rows: dict[str, str], device: str = GPU) -> Path:
    path = folder / "new.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    path.with_suffix(".json").write_text(json.dumps({"device": device}))
    return path


def test_new_rows_take_the_place_of_all_of_their_kinds(tmp_path: Path) -> None:
    old = [row("cublas", 1, at_s="40"), row("moesim", 1), row("moesim", 2), row("moesim", 1, part="few_sms")]
    failed = row("triton", 1, seconds="", note="no compiler")
    found, gone, came = merged(old, file_of(tmp_path, row("moesim", 1, "0.25"), failed), GPU, COLUMNS)
    assert [(each["library"], each["part"], each["seconds"]) for each in found] == [
        ("cublas", "gemm", "0.5"), ("moesim", "few_sms", "0.5"), ("moesim", "gemm", "0.25")
    ]  # fmt: skip
    assert (gone, came) == (2, 1) and found[-1]["at_s"] == "43"


def test_another_gpus_rows_and_a_lone_table_are_refused(tmp_path: Path) -> None:
    path = file_of(tmp_path, row("moesim", 1), device="NVIDIA H200")
    with pytest.raises(CalibrationError, match=f"measured on 'NVIDIA H200', the folder's points on '{GPU}'"):
        merged([row("moesim", 1)], path, GPU, COLUMNS)
    path.with_suffix(".json").unlink()
    with pytest.raises(CalibrationError, match=r"has no new\.json .* renew -o writes both"):
        merged([row("moesim", 1)], path, GPU, COLUMNS)


def test_refit_leaves_a_folder_as_it_was_where_the_points_are_not_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "stack"
    shutil.copytree(STACK, folder)
    before = (folder / "points.csv").read_bytes()
    assert main(["refit", str(folder), "--points", str(file_of(tmp_path, row("moesim", 1), device="NVIDIA H200"))]) == 2
    assert "measured on 'NVIDIA H200'" in capsys.readouterr().err
    assert main(["refit", str(folder), "--points", str(file_of(tmp_path, row("moesim", 1)))]) == 2
    assert "it has other columns" in capsys.readouterr().err
    assert (folder / "points.csv").read_bytes() == before


def test_cases_are_chosen_by_library_and_format_and_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("hwprofiles.calibration.calibrate.session")
    from hwprofiles.calibration.rates import dense, kinds

    monkeypatch.setattr(kinds, "KINDS", {"gemm": dense.cases})
    path = tmp_path / "points.csv"
    asked = ["renew", "-o", str(path), "--device", "cpu", "--library", "cublas", "--dtype", "bf16"]
    assert main(asked) == 0 and "0 of them without a time" in capsys.readouterr().out
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(each["library"], each["dtype"]) for each in rows} == {("cublas", "bf16")} and all(
        each["seconds"] for each in rows
    )
    assert json.loads(path.with_suffix(".json").read_text())["device"]
    assert main(asked) == 2 and "is there already" in capsys.readouterr().err
    assert main([*asked[:2], str(tmp_path / "b.csv"), *asked[3:-3], "cublass"]) == 2
    assert "'cublass' is of no kernel that is measured" in capsys.readouterr().err
    assert main([*asked[:2], str(tmp_path / "b.csv"), *asked[3:], "--limit", "0.000001"]) == 1
