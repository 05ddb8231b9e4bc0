"""`calibrate` as a user drives it, on the processor: what it writes, refuses, and goes on with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")

from hwprofiles.calibration.__main__ import main
from hwprofiles.calibration.calibrate import session
from hwprofiles.calibration.calibrate.harness import Timing
from hwprofiles.record_file import read_record
from hwprofiles.schema import Gpu

MEMORY = ["--device", "cpu", "--part", "memory"]


@pytest.fixture(autouse=True)
def short_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(session.TIMINGS, "cpu", Timing(rest_s=0.0, light_rest_s=0.0, loop_s=0.0))


def run(folder: Path, *more: str) -> int:
    return main(["calibrate", "-o", str(folder), *MEMORY, *more])


def test_a_folder_is_a_stack(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Rows and the unknown device's record; the summary counts them."""
    assert run(tmp_path, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    gpu = read_record(tmp_path / "gpu.yaml", Gpu)
    rows = (tmp_path / "kernels.csv").read_text(encoding="utf-8").splitlines()[1:]
    assert len(rows) == told["num_kernel_rows"] > 0
    assert gpu.unsourced() == ()
