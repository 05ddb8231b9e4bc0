"""What README shows is true: its scenario loads, its commands exist, its table is the committed accuracy."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest

from hwprofiles.units import KILO, MILLI
from simulator import load_scenario, simulate_run
from simulator.check import check_scenario, scenario_schema
from simulator.cli.app import main
from simulator.cli.validate import ACCURACY
from simulator.report.accuracy import accuracy_of, read_accuracy
from simulator.scenario.scenario import Scenario

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [line.split("#")[0].split()[1:] for line in README.splitlines() if line.startswith("moesim ")]


def scenario_of(place: int, folder: Path) -> Scenario:
    """The scenario file of that place in README."""
    file = folder / "file.yaml"
    file.write_text(re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)[place], encoding="utf-8")
    scenario = load_scenario(file)
    check_scenario(scenario)
    return scenario


def test_the_scenario_loads(tmp_path: Path) -> None:
    scenario = scenario_of(0, tmp_path)
    assert (scenario.model.hidden_size, scenario.model.num_layers, scenario.cluster.num_gpus) == (6144, 60, 1024)


def test_the_layout_is_that_of_a_run_that_fits(tmp_path: Path) -> None:
    scenario = scenario_of(1, tmp_path)
    assert not scenario.warnings
    result = simulate_run(scenario.model_copy(update={"draws": 1}))
    assert result.memory.verdict == "fits"
    assert {"tp_all_gather", "dispatch_f", "pipeline_send"} <= {each.name for each in result.step.collectives}


def test_the_keys_that_are_named_are_keys() -> None:
    named = re.findall(r"^- .*", README.partition("Your own layout")[2].partition("From Python")[0], re.MULTILINE)
    known = set(re.findall(r'"([a-z_0-9]+)"', json.dumps(scenario_schema())))
    keys = re.findall(r"`([a-z_0-9.]+)(?:: [a-z]+)?`", " ".join(named))
    assert keys
    for key in keys:
        assert key == "step.collectives" or set(key.split(".")) <= known, key


@pytest.mark.parametrize("arguments", [c for c in COMMANDS if c[0] in ("list", "schema", "schedule")], ids=" ".join)
def test_quick_commands_run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    assert capsys.readouterr().out


@pytest.mark.parametrize("arguments", [c for c in COMMANDS if c[:2] == ["run", "deepseek-v3"]], ids=" ".join)
def test_what_ifs_are_scenarios(arguments: list[str]) -> None:
    overrides = [arguments[i + 1] for i, word in enumerate(arguments) if word == "--set"]
    check_scenario(load_scenario("deepseek-v3", overrides))


QUANTITIES = {
    "**step, latest**": "step.step_s",
    "forward, edge rank": "step.parts.edge.forward_s",
    "backward, edge rank": "step.parts.edge.backward_s",
    "weight gradients, edge rank": "step.parts.edge.weight_s",
    "overlapped F&B pairs, edge rank": "step.parts.edge.overlapped_f_b_s",
    "bubble, edge rank": "step.parts.edge.bubble_s",
    "optimizer": "step.parts.edge.optimizer_s",
    "one traced pair of 4 MoE layers": "trace.pair_s",
    "pre-training, GPU-hours": "steady_state.gpu_hours",
}
"""Row of README's table → quantity of the committed accuracy; the first, blind step stands in docs/accuracy.md alone."""
BLIND = "step, first and blind"
SCALES = {"s": 1.0, "ms": MILLI, "K": KILO}


def table_rows(text: str, columns: int) -> list[list[str]]:
    """Cells of every line of the tables with so many columns."""
    lines = [line.strip("|\n").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in cells] for cells in lines if len(cells) == columns]


TABLE = {row[0]: row[1:] for row in table_rows(README, 6) if row[0] and "---" not in row[0]}


def is_written_as(cell: str, value: float) -> bool:
    """Whether a cell such as "2,555 K" is the value with the digits that it has."""
    number, unit = cell.replace(",", "").split(" ")
    decimals = len(number.partition(".")[2])
    return f"{value / SCALES[unit]:.{decimals}f}" == number


def as_error(error_frac: float) -> str:
    return f"{error_frac:+.1%}".replace("%", " %").replace("-", "−")


def test_every_row_of_the_table_is_the_committed_accuracy() -> None:
    """Values and errors of both stacks, and what they are compared with."""
    with ACCURACY.open(encoding="utf-8") as file:
        rows = {(row["stack"], row["quantity"]): row for row in csv.DictReader(file)}
    assert set(TABLE) == {*QUANTITIES, BLIND}
    wrong = []
    for label, quantity in QUANTITIES.items():
        published, *cells = TABLE[label]
        for stack, value, error in zip(STACKS, cells[::2], cells[1::2], strict=True):
            row = rows[stack, quantity]
            if not is_written_as(published, float(row["measured"])) or not is_written_as(
                value, float(row["predicted"])
            ):
                wrong.append((label, stack, published, value, row["measured"], row["predicted"]))
            if error != as_error(float(row["error_frac"])):
                wrong.append((label, stack, error, as_error(float(row["error_frac"]))))
    assert wrong == []


def test_the_accuracy_of_published_runs_is_that_of_the_committed_file() -> None:
    found = accuracy_of([row for row in read_accuracy() if row.group == "published"])
    assert found is not None
    text = " ".join(README.split())
    assert f"{found.n} published runs" in text
    assert f"mean error of the speed {found.mape:.0%}, median {found.median:.0%}".replace("%", " %") in text
    assert f"{found.coverage:.0%} lie inside the 90 % interval".replace("% l", " % l") in text
    record = (ROOT / "docs" / "accuracy.md").read_text(encoding="utf-8")
    row = (
        f"| all | {found.n} | {found.mape:.0%} (median {found.median:.0%}) | {found.bias:+.0%} | {found.coverage:.0%} |"
    )
    assert row.replace("%", " %") in record


STACKS = re.findall(r"`([^`]+)`", next(line for line in README.splitlines() if line.startswith("| | published")))


def test_the_first_step_is_that_of_the_record_of_all_predictions() -> None:
    record = (ROOT / "docs" / "accuracy.md").read_text(encoding="utf-8")
    first = next(row for row in table_rows(record, 6) if "first, blind" in row[1])
    assert TABLE[BLIND][1:] == first[2:]
    assert is_written_as(TABLE[BLIND][0], 19.926)


@pytest.mark.parametrize("column", [1, 3])
def test_the_errors_follow_from_the_values(column: int) -> None:
    """To the rounding of what is printed."""
    for label, cells in TABLE.items():
        published, predicted = (float(re.sub("[^0-9.]", "", cells[place])) for place in (0, column))
        error = float(cells[column + 1].replace("−", "-").removesuffix(" %")) / 100
        digits = len(re.sub("[^0-9.]", "", cells[column]).partition(".")[2])
        slack = 0.5 * 10.0**-digits / published + 0.0006
        assert error == pytest.approx(predicted / published - 1, abs=slack), label
