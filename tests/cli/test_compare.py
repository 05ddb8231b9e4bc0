"""`moesim compare`: scenarios and result files, the base first; the same numbers as `moesim run`."""

from __future__ import annotations

import json
from math import fsum
from pathlib import Path
from typing import Any

import pytest

from simulator.cli.app import main
from simulator.run import kept_steps
from tests.stack_folder import write_folder

MADE_UP = Path(__file__).parents[1] / "results" / "data" / "made_up_run.json"
SMALL = ("--set", "draws=1")


def compared(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert main(["compare", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_scenario_beside_itself_as_changed_has_the_figures_of_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The base from its result file; both step times, and parts that sum to their difference."""
    base, other = tmp_path / "base.json", tmp_path / "other.json"
    assert main(["run", "mixtral-8x22b", *SMALL, "--out", str(base)]) == 0
    pp7 = (*SMALL, "--set", "parallel.pp=7")
    assert main(["run", "mixtral-8x22b", *pp7, "--out", str(other)]) == 0
    capsys.readouterr()
    found = compared(capsys, str(base), "mixtral-8x22b", *pp7)
    assert found == compared(capsys, str(base), str(other))
    (beside,) = found["others"]
    assert beside["changed"] == [{"key": "parallel.pp", "from": 14, "to": 7}]
    step = next(row for row in beside["results"] if row["key"] == "step.step_s")
    figures = [json.loads(path.read_text())["step"]["step_s"] for path in (base, other)]
    assert [step["from"], step["to"]] == figures
    assert fsum(part["seconds"] for part in beside["step_difference"]) == pytest.approx(
        figures[1] - figures[0], abs=1e-9
    )


def test_what_changes_no_step_is_simulated_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Another price: the base's steps are kept."""
    simulated: list[str] = []
    keep = kept_steps._simulated

    def counted(scenario: Any, sizes: Any, simulate: Any) -> Any:
        simulated.extend(str(size) for size in sizes)
        return keep(scenario, sizes, simulate)

    monkeypatch.setattr(kept_steps, "_simulated", counted)
    base = tmp_path / "small.yaml"
    base.write_text("extends: mixtral-8x22b\nschema_version: 1\ndraws: 1\n")
    found = compared(capsys, str(base), "--set", "prices.usd_per_gpu_hour=3")
    assert len(simulated) == 1
    (beside,) = found["others"]
    assert {row["key"] for row in beside["results"]} == {"totals.cost_usd", "totals.cost_usd_per_trillion_tokens"}
    assert beside["step_difference"] == []


def test_a_run_twice_has_no_difference(capsys: pytest.CaptureFixture[str]) -> None:
    (beside,) = compared(capsys, str(MADE_UP), str(MADE_UP))["others"]
    assert (beside["changed"], beside["results"], beside["step_difference"]) == ([], [], [])


def test_of_a_file_of_another_version_all_figures_are_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = json.loads(MADE_UP.read_text())
    other = tmp_path / "other.json"
    other.write_text(json.dumps(document | {"version": "0.0.9"}))
    (beside,) = compared(capsys, str(MADE_UP), str(other))["others"]
    assert beside["warnings"] == ["made by versions 0.1.0 and 0.0.9: figures as each of them computed"]
    assert main(["compare", str(MADE_UP), str(other)]) == 0
    assert "made by versions 0.1.0 and 0.0.9" in capsys.readouterr().out


def test_markdown_is_one_of_the_formats(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(MADE_UP), str(MADE_UP), "-f", "markdown"]) == 0
    assert capsys.readouterr().out.startswith("### `made-up (2)` beside `made-up`\n")


def test_options_change_no_result_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(MADE_UP), str(MADE_UP), *SMALL]) == 2
    captured = capsys.readouterr()
    assert "--set" in captured.err
    assert captured.out == ""


def test_a_file_that_was_cut_off_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "cut.json"
    path.write_text(MADE_UP.read_text()[:3000])
    assert main(["compare", str(MADE_UP), str(path)]) == 2
    assert "cut.json" in capsys.readouterr().err


def test_stacks_of_two_calibrations_are_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Drivers and power limits that differ stand in every form; what agrees, and a stack without a calibration, is silent."""
    scenario = tmp_path / "mine.yaml"
    scenario.write_text(
        "schema_version: 1\nmodel: llama-3.1-8b\ncluster: {node: h100-x8, num_gpus: 8}\ndraws: 1\n"
        "parallel: {tp: 8}\ntraining: {seq_len: 2048, global_batch_size: 1}\n"
    )
    results = []
    for place, driver, watts in (("a", "580.1", 700.0), ("b", "570.2", 650.0)):
        folder = write_folder(tmp_path / place / "my-h100", driver=driver, watts=watts)
        out = tmp_path / f"{place}.json"
        assert main(["run", str(scenario), "--set", f"stack={folder}", "--out", str(out)]) == 0
        results.append(str(out))
    capsys.readouterr()
    assert main(["compare", *results, "--json"]) == 0
    beside = json.loads(capsys.readouterr().out)["others"][0]
    assert beside["measured_on"] == [
        {"key": "driver", "from": "580.1", "to": "570.2"}, {"key": "power_limit_w", "from": 700.0, "to": 650.0}
    ]  # fmt: skip
    for form in ("text", "markdown"):
        assert main(["compare", *results, "-f", form]) == 0
        words = " ".join(capsys.readouterr().out.split())
        assert "driver 570.2 beside 580.1, power limit 650 W beside 700 W" in words and "torch" not in words
    assert main(["compare", results[0], str(scenario), "--set", "stack=h100-public", "--json"]) == 0
    assert "measured_on" not in json.loads(capsys.readouterr().out)["others"][0]
