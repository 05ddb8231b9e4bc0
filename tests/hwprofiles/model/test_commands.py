"""What the commands say of input that cannot be: a line, exit code 2, and no file of half a result."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from hwprofiles.calibration import command, step_times
from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.calibration.numerics import check as numerics_check
from hwprofiles.calibration.parallel import check as parallel_check
from hwprofiles.calibration.parallel import execute
from hwprofiles.yaml_file import read_yaml

Main = Callable[[Sequence[str]], int]
MEASURING: dict[str, Main] = {
    "numerics": numerics_check.main,
    "parallel": parallel_check.main,
    "step times": step_times.main,
}
needs_no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="is of a machine without a CUDA GPU")


def told(main: Main, arguments: Sequence[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on standard error of a command that refuses."""
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    return err


@pytest.mark.parametrize("main", MEASURING.values(), ids=MEASURING.keys())
def test_usage_that_is_wrong(main: Main, capsys: pytest.CaptureFixture[str]) -> None:
    assert "required: -o/--out; --help lists the options" in told(main, ["--small"], capsys)
    assert "unrecognized arguments: --smal1" in told(main, ["-o", "x", "--smal1"], capsys)
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0 and "-o FILE.json" in capsys.readouterr().out


@pytest.mark.parametrize("main", MEASURING.values(), ids=MEASURING.keys())
def test_a_file_that_cannot_be_written_is_refused_before_work(
    main: Main, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def works(*_: object) -> None:
        raise AssertionError("began")

    monkeypatch.setattr(numerics_check.comparing, "compare", works)
    monkeypatch.setattr(torch.multiprocessing, "start_processes", works)
    monkeypatch.setattr(step_times, "measure", works)
    for name, reason in ((tmp_path / "none" / "x.json", "No such file or directory"), (tmp_path, "it is a folder")):
        words = told(main, ["--small", "-o", str(name)], capsys)
        assert f": -o: {str(name)!r} cannot be written ({reason}); give a file in a folder of yours" in words
    assert list(tmp_path.iterdir()) == []


@needs_no_gpu
@pytest.mark.parametrize("main", [numerics_check.main, parallel_check.main])
def test_a_gpu_that_is_not_there(main: Main, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = told(main, ["--small", "--device", "cuda", "-o", str(tmp_path / "x.json")], capsys)
    assert "--device: 'cuda' cannot be used (" in words and list(tmp_path.iterdir()) == []


def test_a_device_that_torch_does_not_know(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = told(numerics_check.main, ["--small", "--device", "cuba", "-o", str(tmp_path / "x.json")], capsys)
    assert "check: --device: 'cuba' cannot be used (" in words


@pytest.mark.parametrize(("content", "words"), [("[" * 200_000, "is not JSON"), ("\x00", "is not JSON")])
def test_documents_that_are_none(content: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = tmp_path / "schedule.json"
    name.write_text(content)
    assert words in told(execute.main, [str(name)], capsys)
    assert "cannot be read: No such file" in told(execute.main, [str(tmp_path / "none")], capsys)
    assert "cannot be read: Is a directory" in told(execute.main, [str(tmp_path)], capsys)


def test_each_problem_has_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> int:
        raise CalibrationError("one\ntwo")

    assert command.guarded("check", work) == 2 and capsys.readouterr().err == "check: one\ncheck: two\n"


def test_an_older_result_stays_until_the_new_one_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = tmp_path / "x.json"
    command.write_json(name, {"a": 1})
    assert name.read_text() == '{\n "a": 1\n}\n'
    with pytest.raises(TypeError):
        command.write_json(name, {"a": 2, "b": object()})

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(CalibrationError, match=r"-o: .* cannot be written \(No space left on device\)"):
        command.write_json(name, {"a": 3})
    assert [each.name for each in tmp_path.iterdir()] == ["x.json"] and name.read_text() == '{\n "a": 1\n}\n'


@dataclass
class Row:
    name: str
    calls: int
    error: float


def test_a_table_has_six_digits_and_nothing_for_what_is_no_number(tmp_path: Path) -> None:
    """Its provenance says what was measured on and what the columns are."""
    columns = {"name": "what", "calls": "how many", "error": "empty: not computed"}
    rows = [Row("a, b", 12_345_678, 1 / 3), Row("c", 1, math.nan)]
    command.write_table(tmp_path / "x.csv", rows, {"gpu": "a GPU", "left_out": {}}, columns)
    assert (tmp_path / "x.csv").read_text() == 'name,calls,error\n"a, b",12345678,0.333333\nc,1,\n'
    assert read_yaml(tmp_path / "x.yaml").data == {"gpu": "a GPU", "left_out": {}, "columns": columns}
