"""What all GPUs of a host do together: what is refused before a process starts, and a rehearsal of two processes on a CPU."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

pytest.importorskip("torch")

from hwprofiles.calibration.several import cli
from hwprofiles.calibration.several.works import WORKS

ONE_AFTER_ANOTHER = {
    "name": "one after another", "pp": 2, "micro_batches": 1,
    "ranks": [
        [{"kind": "F", "stage": 0, "micro_batch": 0}, {"kind": "B", "stage": 0, "micro_batch": 0}],
        [{"kind": "F", "stage": 1, "micro_batch": 0}, {"kind": "B", "stage": 1, "micro_batch": 0}],
    ],
}  # fmt: skip


def schedule(folder: Path, **more: object) -> Path:
    path = folder / "order.json"
    path.write_text(json.dumps(ONE_AFTER_ANOTHER | more))
    return path


def test_parts_are_those_that_there_are() -> None:
    assert tuple(WORKS) == cli.PARTS


def test_wrong_input_is_refused_before_a_process_starts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["-o", str(tmp_path / "out"), "--device", "cpu"]
    assert cli.main([*out, "--part", "message"]) == 2
    assert "--part: 'message' is unknown" in capsys.readouterr().err
    assert cli.main([*out, "--schedule", str(tmp_path / "none.json")]) == 2
    assert "moesim schedule NAME --pp P" in capsys.readouterr().err
    deep = tmp_path / "deep.json"
    deep.write_text("[" * 100_000)
    assert cli.main([*out, "--schedule", str(deep)]) == 2
    assert "deep.json' cannot be read" in capsys.readouterr().err
    alone = {"pp": 1, "ranks": [[*ONE_AFTER_ANOTHER["ranks"][0]]]}  # type: ignore[index]
    assert cli.main([*out, "--schedule", str(schedule(tmp_path, **alone))]) == 2
    assert "has 1 ranks; 2 processes run it: write --pp 2" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_two_processes_rehearse_experts_a_pipeline_and_a_sharded_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["-o", str(tmp_path / "out"), "--device", "cpu", "--schedule", str(schedule(tmp_path))]
    assert cli.main([*asked, "--part", "layers", "--part", "pipelines", "--part", "sharded"]) == 0
    with (tmp_path / "out" / "several.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["part"] for row in rows] == [*["layers"] * 4, "pipelines", "sharded", "sharded"]
    assert rows[4]["way"] == "one after another" and all(float(row["seconds"]) > 0 for row in rows)
    assert "pipelines: pipeline one after another" in capsys.readouterr().err
    before = (tmp_path / "out" / "several.csv").read_bytes()
    assert cli.main([*asked, "--part", "pipelines", "--part", "sharded"]) == 0
    assert "pipeline one" not in capsys.readouterr().err and (tmp_path / "out" / "several.csv").read_bytes() == before
