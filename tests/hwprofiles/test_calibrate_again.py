"""Folders that a calibration finds: cut by --limit, somebody's own, on a disk that is full."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from hwprofiles.calibration import command
from hwprofiles.calibration.__main__ import main
from hwprofiles.calibration.calibrate import session
from hwprofiles.calibration.calibrate.harness import Timing
from hwprofiles.record_file import read_record
from hwprofiles.schema import Gpu

LIMIT = ("--limit", "1e-9")


@pytest.fixture(autouse=True)
def short_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(session.TIMINGS, "cpu", Timing(rest_s=0.0, light_rest_s=0.0, loop_s=0.0))


def calibrate(folder: Path, *more: str) -> int:
    return main(["calibrate", "-o", str(folder), "--device", "cpu", "--part", "gemm", *more])


def kernels(folder: Path) -> int:
    with (folder / "points.csv").open(encoding="utf-8", newline="") as file:
        return len({tuple(row.values())[:12] for row in csv.DictReader(file)})


def test_a_limited_run_is_gone_on_with(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each call measures for its own limit; the one without a limit measures the rest, and then the folder is finished."""
    assert calibrate(tmp_path, *LIMIT) == 0
    first, kept = kernels(tmp_path), (tmp_path / "points.csv").read_bytes()
    assert (tmp_path / "provenance.yaml").exists()
    assert calibrate(tmp_path, *LIMIT) == 0
    second = kernels(tmp_path)
    assert first < second
    assert calibrate(tmp_path) == 0
    assert second < kernels(tmp_path)
    assert (tmp_path / "points.csv").read_bytes().startswith(kept)
    capsys.readouterr()
    assert calibrate(tmp_path, *LIMIT) == 2
    assert "--force" in capsys.readouterr().err


def test_a_limited_run_of_another_machine_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert calibrate(tmp_path, *LIMIT) == 0
    begun = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))
    (tmp_path / "run.json").write_text(json.dumps({**begun, "driver": "1.2"}), encoding="utf-8")
    assert calibrate(tmp_path) == 2
    assert "--force" in capsys.readouterr().err


def test_corrected_figures_of_a_device_are_kept(tmp_path: Path) -> None:
    """gpu.yaml as somebody edited it survives the call that goes on; as the program wrote it, it is written anew."""
    assert calibrate(tmp_path, *LIMIT) == 0
    path = tmp_path / "gpu.yaml"
    reached = read_record(path, Gpu).peak_flop_per_s["bf16"]
    assert calibrate(tmp_path, *LIMIT) == calibrate(tmp_path, *LIMIT) == 0
    assert read_record(path, Gpu).peak_flop_per_s["bf16"] >= reached
    path.write_text(path.read_text(encoding="utf-8").replace("tdp_w: 100.0", "tdp_w: 321.0"), encoding="utf-8")
    assert calibrate(tmp_path) == 0
    assert read_record(path, Gpu).tdp_w == 321.0


@pytest.mark.parametrize("options", [(), ("--force",)])
@pytest.mark.parametrize("name", ["kernels.csv", "gpu.yaml", "parameters.yaml", "points.csv"])
def test_a_folder_of_somebody_s_own_tables_is_refused(
    tmp_path: Path, name: str, options: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """Files of these names that no calibration wrote are not written over."""
    (tmp_path / name).write_text("mine", encoding="utf-8")
    assert calibrate(tmp_path, *options) == 2
    assert f"has a {name} without a run.json; give another folder" in capsys.readouterr().err
    assert (tmp_path / name).read_text(encoding="utf-8") == "mine"
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_disk_that_is_full_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1, since no input is wrong, and the remedy; what was measured serves the next call."""

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("hwprofiles.calibration.calibrate.rows.write_whole", _on_a_full_disk(full))
        assert calibrate(tmp_path, *LIMIT) == 1
    told = capsys.readouterr().err
    assert "No space left on device" in told and "make room there and start the same command again" in told
    measured = (tmp_path / "points.csv").read_bytes()
    assert calibrate(tmp_path) == 0
    assert (tmp_path / "points.csv").read_bytes().startswith(measured)


def _on_a_full_disk(full: Any) -> Any:
    def write(path: Path, text: str) -> None:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(command.tempfile, "mkstemp", full)
            command.write_whole(path, text)

    return write


SPOILED = [
    ("seconds", "abc"),
    ("seconds", "-1"),
    ("seconds", "nan"),
    ("low", ""),
    ("m", "2.5"),
    ("flop", "x"),
    ("at_s", ""),
]


@pytest.mark.parametrize(("column", "text"), SPOILED)
def test_a_spoiled_number_is_named(tmp_path: Path, column: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """By the run that goes on and by refit: line, column, value and remedy; the file stays as it is."""
    assert calibrate(tmp_path, *LIMIT) == 0
    path = tmp_path / "points.csv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    rows[0][column] = text
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    spoiled = path.read_bytes()
    for command_line in (calibrate(tmp_path), main(["refit", str(tmp_path)])):
        assert command_line == 2
    told = capsys.readouterr().err
    assert told.count(f"points.csv:2: {column}: is no ") == 2
    assert f'("{text}"); take both lines' in told
    assert path.read_bytes() == spoiled


@pytest.mark.parametrize("change", [{"date": 5}, {"date": "soon"}, {"date": None}])
def test_a_run_without_its_date_is_refused(
    tmp_path: Path, change: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert calibrate(tmp_path, *LIMIT) == 0
    path = tmp_path / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **change}), encoding="utf-8")
    assert calibrate(tmp_path) == main(["refit", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert "is no record of a run" in told and "refit: " in told


def test_another_table_is_not_fitted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert calibrate(tmp_path, *LIMIT) == 0
    (tmp_path / "points.csv").write_text("part,op\ngemm,gemm\n", encoding="utf-8")
    capsys.readouterr()
    assert main(["refit", str(tmp_path)]) == 2
    assert "points.csv: variant: the column is missing; bring the whole table back" in capsys.readouterr().err


def test_an_earlier_calibration_that_cannot_be_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A spoiled one is told before anything is measured; beside one without a kernel in common the summary is printed."""
    earlier, own = tmp_path / "earlier", tmp_path / "own"
    assert main(["calibrate", "-o", str(earlier), "--device", "cpu", "--part", "attention", *LIMIT]) == 0
    capsys.readouterr()
    assert calibrate(own, *LIMIT, "--repeat-of", str(earlier), "--json") == 2
    captured = capsys.readouterr()
    assert json.loads(captured.out)["folder"] == str(own) and "no kernel in common" in captured.err
    path = earlier / "points.csv"
    path.write_text(path.read_text(encoding="utf-8").replace("first_launches,", "first_launches,-"), encoding="utf-8")
    assert calibrate(tmp_path / "late", "--repeat-of", str(earlier)) == 2
    assert "points.csv:2: seconds: is no number above 0" in capsys.readouterr().err
    assert not (tmp_path / "late").exists()
