"""What README shows is true: its scenario loads, its commands exist, its table is the committed accuracy."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from simulator.check import check_scenario
from simulator.cli.app import main
from simulator.cli.validate import ACCURACY
from simulator.scenario import load_scenario

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
COMMANDS = [line.split("#")[0].split()[1:] for line in README.splitlines() if line.startswith("moesim ")]


def test_the_scenario_loads(tmp_path: Path) -> None:
    block = re.search(r"```yaml\n(.*?)```", README, re.DOTALL)
    assert block is not None
    file = tmp_path / "my-moe.yaml"
    file.write_text(block[1], encoding="utf-8")
    scenario = load_scenario(file)
    check_scenario(scenario)
    assert (scenario.model.hidden_size, scenario.model.num_layers, scenario.cluster.num_gpus) == (6144, 60, 1024)


@pytest.mark.parametrize("arguments", [c for c in COMMANDS if c[0] in ("list", "schema", "schedule")], ids=" ".join)
def test_quick_commands_run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    assert capsys.readouterr().out


@pytest.mark.parametrize("arguments", [c for c in COMMANDS if c[:2] == ["run", "deepseek-v3"]], ids=" ".join)
def test_what_ifs_are_scenarios(arguments: list[str]) -> None:
    overrides = [arguments[i + 1] for i, word in enumerate(arguments) if word == "--set"]
    check_scenario(load_scenario("deepseek-v3", overrides))


def test_the_table_is_the_committed_accuracy() -> None:
    row = re.search(r"\*\*step, latest\*\* \| [\d.]+ s \| ([\d.]+) s \|[^|]*\| ([\d.]+) s \|", README)
    assert row is not None
    with ACCURACY.open(encoding="utf-8") as file:
        steps = [float(entry["predicted"]) for entry in csv.DictReader(file) if entry["quantity"] == "step.step_s"]
    assert [float(row[1]), float(row[2])] == [round(step, 2) for step in steps]
