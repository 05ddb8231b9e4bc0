"""`moesim calibrate` as a user types it; what it measures is tested beside hwprofiles.calibration."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")

from simulator.cli.app import main

REHEARSAL = ["--device", "cpu", "--part", "beside"]


@pytest.mark.slow
def test_the_folder_is_written_and_refused_when_it_is_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One document on standard output; its folder is finished, and a second call says so with exit code 2."""
    command = ["calibrate", "-o", str(tmp_path / "mine"), *REHEARSAL]
    assert main([*command, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["folder"] == str(tmp_path / "mine")
    assert told["left_out"] and {entry["class"] for entry in told["classes"]} == {"beside"}
    assert (tmp_path / "mine" / "provenance.yaml").exists()
    assert main(command) == 2
    captured = capsys.readouterr()
    assert "--force" in captured.err and not captured.out


@pytest.mark.parametrize("options", [["--limit", "0"], ["--limit", "nan"], ["--repeat-of", "nowhere"], ["--part", "x"]])
def test_every_problem_is_named(tmp_path: Path, options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate", "-o", str(tmp_path / "mine"), "--device", "cpu", "--gpu", "h1000", *options]) == 2
    told = capsys.readouterr().err
    assert options[0] in told and "--gpu" in told
    assert not (tmp_path / "mine").exists()
