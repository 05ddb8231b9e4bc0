"""Figures that commands print are those that their labels name: waits of the reference, columns, defaults, tables."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest

from simulator import load_scenario
from simulator.cli import bench as bench_command
from simulator.cli import run as run_command
from simulator.cli.app import main
from simulator.cli.list import COLUMNS
from simulator.cli.run import _quicker
from simulator.engine import reference
from simulator.step import draws
from simulator.step.prepared import prepare
from simulator.step.step import simulate_prepared
from tests.cli.test_bench import TINY
from tests.cli.test_commands import run_small
from validation.accuracy import case_line, cells_of, table_text
from validation.case import Group
from validation.compare import Row

SCENARIO = load_scenario("deepseek-v3", TINY[1::2])
REFERENCE = ["run", "deepseek-v3", *TINY, "--json", "--engine", "reference"]


@pytest.mark.parametrize(("wait_s", "is_told"), [(45.0, False), (75.0, True)])
def test_a_wait_of_more_than_a_minute_is_told_with_its_work(
    wait_s: float, is_told: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seconds are operators x lanes x draws over the rate; memory is of one draw: 400 bytes an operator and lane."""
    assert main(["bench", "deepseek-v3", *TINY, "--json"]) == 0
    num_ops = json.loads(capsys.readouterr().out)["num_ops"]
    monkeypatch.setattr(reference, "OPS_PER_S", num_ops * 8 * 2 / wait_s)
    run_command._simulator(SCENARIO, "reference")
    said = capsys.readouterr().err
    assert bool(said) == is_told
    if is_told:
        assert f"{num_ops:,} operators x 8 lanes x 2 draws: about 1.25 min a step" in said
        found = re.search(r"step and ([\d.]+) MB of memory", said)
        assert found is not None
        assert float(found[1]) == pytest.approx(num_ops * 8 * 400 / 1e6, rel=5e-3)


def test_the_reference_is_what_runs_where_it_is_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object) -> None:
        raise RuntimeError("the reference was asked")

    monkeypatch.setattr(draws, "simulate_reference", broken)
    assert main(REFERENCE) == 1
    assert "the reference was asked" in capsys.readouterr().err


def test_a_model_whose_experts_stay_on_their_gpu_has_no_balance_to_force() -> None:
    dense = load_scenario("llama-3.1-70b")
    assert dense.parallel.ep == 1
    assert "moe.balance" not in _quicker(dense, 8, dense.draws)
    assert "device.speed_cv=0" in _quicker(dense, 8, dense.draws)


def test_a_file_that_comes_while_the_run_computes_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "result.json"

    def another_writes(document: object) -> str:
        path.write_text("of another")
        return "{}"

    monkeypatch.setattr("simulator.run.training_run.simulate_run", lambda scenario, **_: None)
    monkeypatch.setattr("simulator.results.document.to_json", another_writes)
    assert run_small("--out", str(path)) == 2
    assert path.read_text() == "of another"


def test_a_narrow_list_keeps_the_first_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What people choose a GPU by first: its BF16 rate, its memory, its bandwidth; FP8 before FP4."""
    monkeypatch.setenv("COLUMNS", "60")
    assert main(["list", "gpus"]) == 0
    header = capsys.readouterr().out.splitlines()[0]
    headers = [column.header for column in COLUMNS["gpus"]]
    assert headers[:6] == ["name", "dense BF16", "memory", "bandwidth", "dense FP8", "dense FP4"]
    shown = [name for name in headers if name in header]
    assert shown == headers[: len(shown)] and 2 < len(shown) < len(headers)


def test_each_gpu_has_one_default_stack(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "stacks", "--json"]) == 0
    entries = json.loads(capsys.readouterr().out)
    defaults = [entry["gpu"] for entry in entries if entry["is_default"]]
    assert sorted(defaults) == sorted({entry["gpu"] for entry in entries})
    assert next(entry["is_default"] for entry in entries if entry["name"] == "h800-deepseek-2024")


def test_the_fewest_micro_batches_are_those_of_eight_ranks(capsys: pytest.CaptureFixture[str]) -> None:
    """DualPipe's README: an even number, at least twice the ranks. Interleaving goes round the ranks in whole turns."""
    assert main(["list", "schedules", "--json"]) == 0
    found = {entry["name"]: entry["min_micro_batches_of_8_ranks"] for entry in json.loads(capsys.readouterr().out)}
    assert found == {
        "1f1b": 1, "gpipe": 1, "dualpipe": 16, "interleaved_1f1b": 8,
        "1f1b_ep_overlap": 2, "interleaved_1f1b_ep_overlap": 8, "dualpipe_v": 16, "zb_h1": 1, "zb_v": 1,
    }  # fmt: skip


def test_the_folded_step_is_no_shorter_than_the_one_it_bounds(capsys: pytest.CaptureFixture[str]) -> None:
    """One lane with the slowest rank's multiplier in every row: no lane of the drawn step takes longer."""
    assert main(["bench", "deepseek-v3", *TINY, "--json"]) == 0
    folded_s = float.fromhex(json.loads(capsys.readouterr().out)["makespan_sweep"])
    one = SCENARIO.model_copy(update={"draws": 1})
    assert folded_s >= simulate_prepared(prepare(one), explained=False).step.step_s


def test_engines_that_disagree_in_the_first_draw_disagree(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = bench_command.bench
    monkeypatch.setattr(bench_command, "bench", lambda *arguments: bench(*arguments) | {"equal": False})
    monkeypatch.setattr(bench_command, "are_draws_equal", lambda *arguments: True)
    assert main(["bench", "deepseek-v3", *TINY, "--draws", "2", "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["equal"] is False


def test_the_accuracy_table_has_the_digits_of_a_comparison() -> None:
    """Six significant ones, each figure under its own name."""
    group = Group(model="m", gpu="g", framework="f", release="r", precision="p", num_gpus=8)
    figures = (19.123456, 18.234567, 21.345678, 20.456789)
    row = Row("c", "s", group, "step.step_s", "edge", *figures, "made up", "a note")
    (found,) = csv.DictReader(io.StringIO(table_text([cells_of(case_line(row))])))
    assert found == {
        "case": "c", "stack": "s", "reading": "edge", "gpu": "g", "model": "m", "group": "case", "quantity": "step.step_s",
        "predicted": "19.1235", "low": "18.2346", "high": "21.3457", "measured": "20.4568", "error_frac": "-0.065178",
        "source": "made up", "note": "a note",
    }  # fmt: skip
