"""`moesim calibrate --from-trace`: a folder that scenarios take, without torch and without a GPU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from simulator.cli.app import main
from tests.cli.test_compare_trace import scenario
from tests.traces.kineto import GEMM, kernel, launch, operator, write

BF16 = "c10::BFloat16"


def trace(path: Path, with_sizes: bool = True) -> str:
    """Thirty GEMMs from a full queue, 1.5 us apart, each 200 us."""
    dims = [[8192, 2048], [2048, 4096]] if with_sizes else []
    events = [operator(number, "aten::mm", dims, [BF16, BF16]) | {"ts": 2.0 * number} for number in range(1, 31)]
    events += [launch(number, 2.0 * number) for number in range(1, 31)]
    events += [kernel(GEMM, 1_000.0 + 201.5 * number, 200.0, number=number, op=number) for number in range(1, 31)]
    return str(write(path, events, cuda_runtime_version=12080))


def test_a_stack_that_scenarios_take(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "from-trace"
    assert main(["calibrate", "--from-trace", trace(tmp_path / "t.json.gz"), "-o", str(out)]) == 0
    captured = capsys.readouterr()
    assert "1 rows of 30 calls" in captured.out and "kernel_gap_s 1.50 us" in captured.out and not captured.err
    taken = ["compare", str(tmp_path / "t.json.gz"), scenario(tmp_path), "--set", f"stack={out}", "--json"]
    assert main(taken) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["others"][0]["stack"] == "from-trace"
    assert result["others"][0]["stack_kind"] == "measured"


def test_without_sizes_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "from-trace"
    assert main(["calibrate", "--from-trace", trace(tmp_path / "t.json", False), "-o", str(out), "--json"]) == 0
    captured = capsys.readouterr()
    told = json.loads(captured.out)
    assert told["files"] == ["host_parameters.yaml", "provenance.yaml", "trace_kernels.csv", "trace_summary.csv"]
    assert "kernels without sizes cannot become rows" in captured.err
    assert sorted(path.name for path in out.iterdir()) == told["files"]


def test_a_folder_is_replaced_only_when_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And holds nothing of the earlier trace then."""
    out = tmp_path / "from-trace"
    first, second = trace(tmp_path / "t.json"), trace(tmp_path / "u.json", False)
    assert main(["calibrate", "--from-trace", first, "-o", str(out)]) == 0
    kernels = (out / "kernels.csv").read_bytes()
    assert main(["calibrate", "--from-trace", second, "-o", str(out)]) == 2
    assert "holds something" in capsys.readouterr().err and (out / "kernels.csv").read_bytes() == kernels
    assert main(["calibrate", "--from-trace", second, "-o", str(out), "--force"]) == 0
    assert not (out / "kernels.csv").exists()


def test_the_same_trace_gives_the_same_bytes(tmp_path: Path) -> None:
    path = trace(tmp_path / "t.json")
    for name in ("one", "other"):
        assert main(["calibrate", "--from-trace", path, "-o", str(tmp_path / name)]) == 0
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "other" / file.name).read_bytes()


def test_bad_input_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, out = trace(tmp_path / "t.json"), tmp_path / "out"
    cut = tmp_path / "cut.json"
    cut.write_bytes(Path(good).read_bytes()[:-9])
    for arguments, words in (
        ([str(cut)], ["cut off"]),
        ([str(tmp_path / "none.json")], ["cannot be read"]),
        ([good, "--quick", "--part", "gemm", "--device", "cpu"], ["--quick: has no meaning", "--part", "--device"]),
        ([good, "--gpu", "h1000"], ["no GPU is called 'h1000'", "did you mean"]),
    ):
        assert main(["calibrate", "--from-trace", *arguments, "-o", str(out)]) == 2
        captured = capsys.readouterr()
        assert not captured.out and all(each in captured.err for each in words)
        assert not out.exists()
