"""`calibrate` as a user drives it, on the processor: what it writes, refuses, and goes on with."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from hwprofiles.calibration.__main__ import main
from hwprofiles.calibration.calibrate import session
from hwprofiles.calibration.calibrate.harness import Timing
from hwprofiles.calibration.calibrate.store import Table
from hwprofiles.kernels.parameters import row_problem
from hwprofiles.kernels.rows import read_kernel_rows
from hwprofiles.record_file import read_mapping, read_record
from hwprofiles.schema import Gpu
from hwprofiles.stack_folders import open_folder
from hwprofiles.stack_records import Parameter, StackProvenance

OPTIONS = ("--device", "cpu", "--part", "memory")


@pytest.fixture(autouse=True)
def short_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(session.TIMINGS, "cpu", Timing(rest_s=0.0, light_rest_s=0.0, loop_s=0.0))


def calibrate(folder: Path, *more: str) -> int:
    return main(["calibrate", "-o", str(folder), *OPTIONS, *more])


def points(folder: Path) -> list[dict[str, str]]:
    with (folder / "points.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def interrupted_after(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C when that many rows are written."""
    append = Table.append

    def stopped(table: Table, new: Iterable[Mapping[str, Any]]) -> None:
        append(table, new)
        if len(table.rows) >= rows:
            raise KeyboardInterrupt

    monkeypatch.setattr(Table, "append", stopped)


def test_a_folder_is_a_stack(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Rows, parameters, provenance and the unknown device's record are read by what reads the catalogue."""
    assert calibrate(tmp_path, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    gpu = read_record(tmp_path / "gpu.yaml", Gpu)
    rows = read_kernel_rows(tmp_path / "kernels.csv", lambda row: row_problem(row, gpu))
    provenance = read_record(tmp_path / "provenance.yaml", StackProvenance)
    assert provenance.gpu == gpu.name == told["gpu"]
    assert provenance.caveat
    assert "memory.default" in read_mapping(tmp_path / "parameters.yaml", Parameter)
    assert len(rows) == told["num_kernel_rows"] > 0
    stack = open_folder(tmp_path).stack
    assert len(stack.kernels.rows) == len(rows)
    assert stack.parameters["memory.default"].source == provenance.sources["calibrate"]
    assert gpu.unsourced() == ()
    assert not told["gpu_is_known"]
    assert {row["state"] for row in points(tmp_path) if row["seconds"]} == {"first_launches", "benchmark_loop"}


@pytest.mark.slow
def test_an_interrupted_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 130 and one line; the second run measures what is missing and keeps what is there."""
    with monkeypatch.context() as patched:
        interrupted_after(4, patched)
        assert calibrate(tmp_path) == 130
    assert capsys.readouterr().err.count("interrupted") == 1
    assert not (tmp_path / "provenance.yaml").exists()
    kept = (tmp_path / "points.csv").read_text(encoding="utf-8")
    with (tmp_path / "points.csv").open("a", encoding="utf-8") as file:
        file.write("memory,rope,,bf16,tor")  # what a kill leaves of a line
    assert calibrate(tmp_path) == 0
    assert (tmp_path / "points.csv").read_text(encoding="utf-8").startswith(kept)
    columns = ("op", "variant", "dtype", "library", "m", "n", "state")
    keys = [tuple(row[column] for column in columns) for row in points(tmp_path)]
    assert len(keys) == len(set(keys)) > 4


def test_half_a_kernel_is_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        interrupted_after(4, patched)
        assert calibrate(tmp_path) == 130
    path = tmp_path / "points.csv"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(lines[:-1]), encoding="utf-8")
    assert len(session.points_of(tmp_path).rows) == 2
    assert path.read_text(encoding="utf-8") == "".join(lines[:-2])


@pytest.mark.slow
def test_a_folder_begun_otherwise_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of another driver: what differs is named, and nothing is touched."""
    assert calibrate(tmp_path) == 0
    (tmp_path / "provenance.yaml").unlink()
    begun = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))
    (tmp_path / "run.json").write_text(json.dumps({**begun, "driver": "1.2"}), encoding="utf-8")
    before = (tmp_path / "points.csv").read_bytes()
    assert calibrate(tmp_path) == 2
    told = capsys.readouterr().err
    assert "driver: 1.2 then" in told and "--force" in told
    assert (tmp_path / "points.csv").read_bytes() == before


@pytest.mark.slow
def test_a_finished_folder_is_kept_until_the_new_one_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert calibrate(tmp_path) == 0
    (tmp_path / "mine.txt").write_text("kept", encoding="utf-8")
    (tmp_path / "network_parameters.yaml").write_text("{}", encoding="utf-8")  # of the old one alone
    old = (tmp_path / "points.csv").read_bytes()
    assert calibrate(tmp_path) == 2
    assert "--force" in capsys.readouterr().err
    with monkeypatch.context() as patched:
        interrupted_after(2, patched)
        assert calibrate(tmp_path, "--force") == 130
    assert (tmp_path / "points.csv").read_bytes() == old
    assert (tmp_path / "provenance.yaml").exists()
    assert calibrate(tmp_path, "--force") == 0
    assert (tmp_path / "points.csv").read_bytes() != old
    assert (tmp_path / "mine.txt").exists()
    assert not (tmp_path / "network_parameters.yaml").exists()
    assert not (tmp_path / ".new").exists()


@pytest.mark.slow
def test_a_full_disk_keeps_what_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1, one message; the next run goes on behind the last whole row."""
    from hwprofiles.calibration.calibrate import store

    write, calls = store._write, []

    def full(path: Path, position: int, data: bytes) -> None:
        calls.append(position)
        if len(calls) == 3:
            write(path, position, data[:20])
            raise OSError(28, "No space left on device")
        write(path, position, data)

    with monkeypatch.context() as patched:
        patched.setattr(store, "_write", full)
        assert calibrate(tmp_path) == 1
    told = capsys.readouterr().err
    assert "No space left on device" in told and "4 rows" in told
    assert len(points(tmp_path)) == 4
    assert (tmp_path / "points.csv").read_bytes().endswith(b"\n")
    assert calibrate(tmp_path) == 0


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--part", "gem"], "gemm"),
        (["--gpu", "h1000"], "h100"),
        (["--device", "tpu"], "cpu"),
        (["--bogus"], "--help"),
    ],
)
def test_wrong_options_are_refused(
    tmp_path: Path, options: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["calibrate", "-o", str(tmp_path / "new"), *options]) == 2
    assert named in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_without_a_gpu_the_remedy_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert main(["calibrate", "-o", str(tmp_path)]) == 2
    assert "--device cpu" in capsys.readouterr().err


def test_without_torch_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert calibrate(tmp_path) == 2
    assert "moesim[calibrate]" in capsys.readouterr().err


def test_a_folder_that_takes_no_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert calibrate(tmp_path / "file") == 2
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.slow
def test_two_runs_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every second of the other 10 % longer: that is the median and the tail; flagged rows are no evidence."""
    first, second = tmp_path / "a", tmp_path / "b"
    assert calibrate(first) == 0
    second.mkdir()
    rows = points(first)
    for row in rows:
        row["seconds"] = repr(1.1 * float(row["seconds"])) if row["seconds"] else ""
    rows[0]["note"] = "flagged: the SM clock moved"
    with (second / "points.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    capsys.readouterr()
    assert main(["compare", str(first), str(second), "--json"]) == 0
    *_, together = json.loads(capsys.readouterr().out)
    assert together["class"] == "all"
    assert together["points"] == sum(bool(row["seconds"]) for row in rows) - 1
    assert together["median_ratio"] == pytest.approx(1.1)
    assert together["p90_apart"] == pytest.approx(0.1)
    assert main(["compare", str(first), str(tmp_path)]) == 2


@pytest.mark.slow
def test_the_same_tables_are_fitted_to_the_same_stack(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without measuring, and in a process that has no torch; a folder that is none is refused."""
    assert calibrate(tmp_path) == 0
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for name in ("kernels.csv", "parameters.yaml", "provenance.yaml"):
        (tmp_path / name).unlink()
    code = "import sys; sys.modules['torch'] = None; from hwprofiles.calibration.__main__ import main; sys.exit(main())"
    subprocess.run([sys.executable, "-c", code, "refit", str(tmp_path)], check=True, env=dict(os.environ))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert main(["refit", str(tmp_path / "none")]) == 2
    assert "moesim calibrate -o" in capsys.readouterr().err


@pytest.mark.slow
def test_a_killed_run_goes_on(tmp_path: Path) -> None:
    """SIGKILL while it measures, in a process of its own."""
    command = [sys.executable, "-m", "hwprofiles.calibration", "calibrate", "-o", str(tmp_path), "--device", "cpu"]
    command += ["--part", "grouped", "--part", "memory"]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(os.environ))
    path = tmp_path / "points.csv"
    until = time.monotonic() + 60.0
    while time.monotonic() < until and (not path.exists() or path.read_text(encoding="utf-8").count("\n") < 5):
        time.sleep(0.01)
    running.send_signal(signal.SIGKILL)
    running.wait()
    kept = session.points_of(tmp_path).rows
    assert kept and not (tmp_path / "provenance.yaml").exists()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(os.environ))
    assert points(tmp_path)[: len(kept)] == kept
    assert (tmp_path / "provenance.yaml").exists()
