"""Both engines say the same of a scenario's own step, by `bench` and by `run --engine`; where not, the exit code is 3."""

from __future__ import annotations

import json

import pytest

from simulator import load_scenario
from simulator.cli import bench as bench_command
from simulator.cli import run as run_command
from simulator.cli.app import main
from simulator.cli.run import _quicker

TINY = [
    "--set", "cluster.num_gpus=128", "--set", "training.global_batch_size=256", "--set", "parallel.pp=2",
    "--set", "phases=[{name: short, steps: 2}]", "--set", "parallel.ep=8", "--set", "moe.max_nodes_per_token=1",
    "--set", "draws=2", "--set", "model=deepseek-v2-lite", "--set", "precision=bf16",
]  # fmt: skip
"""Options that make of the DeepSeek-V3 preset a step of few operators: 27 layers on two pipeline ranks."""
EVEN = ["--set", "moe.balance=forced", "--set", "device.speed_cv=0"]
KEYS = [
    "num_ops", "reference_s", "sweep_s", "ratio_sweep_over_simpy", "makespan_reference", "makespan_sweep", "equal",
]  # fmt: skip


def test_document_has_the_contracts_keys(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "deepseek-v3", *TINY, "--json"]) == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert list(document) == KEYS
    assert document["equal"] is True
    assert float.fromhex(document["makespan_reference"]) == float.fromhex(document["makespan_sweep"]) > 0
    assert document["ratio_sweep_over_simpy"] == document["reference_s"] / document["sweep_s"]
    assert document["num_ops"] > 100


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "equal bit for bit (1 draw(s))"),
        (["--draws", "3"], "equal bit for bit (3 draw(s))"),
        (["--draws", "3", "--set", "moe.balance=forced"], "equal bit for bit (3 draw(s))"),
        (["--draws", "3", *EVEN], "equal bit for bit (nothing is random)"),
    ],
)
def test_table_says_what_was_compared(options: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "deepseek-v3", *TINY, *options]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith(said)


def test_the_load_of_the_fullest_rank_is_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    def makespan_s(*options: str) -> float:
        assert main(["bench", "deepseek-v3", *TINY, *options, "--json"]) == 0
        return float.fromhex(json.loads(capsys.readouterr().out)["makespan_sweep"])

    assert makespan_s() > makespan_s(*EVEN)


def test_engines_that_disagree_exit_3_with_the_output(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_command, "are_draws_equal", lambda *arguments: False)
    assert main(["bench", "deepseek-v3", *TINY, "--draws", "2", "--json"]) == 3
    captured = capsys.readouterr()
    assert json.loads(captured.out)["equal"] is False
    assert "disagree" in captured.err


@pytest.mark.parametrize("draws", ["0", "-1", "1001"])
def test_draws_out_of_range_are_refused(draws: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "deepseek-v3", "--draws", draws]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"--draws: is out of range ({draws}); allowed 1 to 1,000")


@pytest.mark.parametrize("options", [[], EVEN])
def test_run_by_the_reference_is_the_same_document(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    documents = []
    for engine in ("sweep", "reference"):
        assert main(["run", "deepseek-v3", *TINY, *options, "--json", "--engine", engine]) == 0
        documents.append(capsys.readouterr())
    assert documents[0].out == documents[1].out
    assert documents[1].err == ""


def test_a_long_wait_is_announced(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_command, "LONG_S", 0.0)
    assert main(["run", "deepseek-v3", *TINY, "--json", "--engine", "reference"]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: --engine reference: ")
    assert " x 8 lanes x 2 draws: " in line
    assert "draws=1" in line
    assert "moe.balance=forced" in line


def test_an_unknown_engine_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "deepseek-v3", "--engine", "simpy"]) == 2
    assert capsys.readouterr().err == '--engine: no engine "simpy"; allowed reference, sweep\n'


@pytest.mark.parametrize(
    ("overrides", "advice"),
    [
        (["draws=4"], "; --set draws=1 takes less time; --set moe.balance=forced --set device.speed_cv=0 (one lane)"),
        (["draws=1"], "; --set moe.balance=forced --set device.speed_cv=0 (one lane)"),
        (["draws=1", "moe.balance=forced"], "; --set device.speed_cv=0 (one lane)"),
        (["draws=1", "device.speed_cv=0"], "; --set moe.balance=forced (one lane)"),
        (["draws=1", "device.speed_cv=0", "moe.balance=forced"], ""),
    ],
)
def test_the_advice_names_only_what_is_not_set_already(overrides: list[str], advice: str) -> None:
    scenario = load_scenario("deepseek-v3", overrides)
    said = _quicker(scenario, 64, scenario.draws)
    assert said == advice + (" takes little of both" if "lane" in advice else "")
