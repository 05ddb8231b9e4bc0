"""What a mechanism is worth: rows and the reference predicted again with it switched off, and nothing else changed."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from simulator import load_scenario
from simulator.cli.app import main
from simulator.scenario.plan import Mechanisms
from simulator.scenario.scenario import Scenario
from simulator.step.step import simulate_seconds, simulate_times
from tests.validation.instrument.made_up import run
from tests.validation.instrument.test_prediction import SMALL
from validation.instrument import ablation
from validation.instrument.ablation import IDLE, OFF, chosen, contributions, steps_without, without
from validation.instrument.document import document
from validation.instrument.tables import mechanisms
from validation.page.blocks import blocks

PIPELINE = [
    "cluster.num_gpus=16", "cluster.node=h100-x8", "stack=h100-public", "parallel.pp=2", "parallel.tp=2",
    "model.num_layers=4", "model.num_dense_layers=4",
    "training.global_batch_size=32", "draws=1",
]  # fmt: skip


@pytest.fixture(scope="module")
def plan() -> Scenario:
    """A small dense run with a pipeline and tensor parallelism."""
    return load_scenario({"model": "llama-3.1-8b", "schema_version": 1}, PIPELINE)


def test_every_switch_of_the_scenario_is_a_mechanism_here() -> None:
    assert set(Mechanisms.model_fields) <= set(OFF)
    assert chosen(["power", "all"]) == tuple(OFF)
    assert chosen(["power", "pp_transfer", "power"]) == ("pp_transfer", "power")


def test_one_key_is_changed_and_a_mechanism_that_is_off_changes_nothing(plan: Scenario) -> None:
    off = without(plan, "pp_transfer")
    assert not off.mechanisms.pp_transfer
    assert off.model_copy(update={"mechanisms": plan.mechanisms}) == plan
    assert without(off, "pp_transfer") is off
    assert without(plan, "overlap of tensor parallelism") is plan
    assert without(plan, "overlap of data parallelism").parallel.overlap.dp is False


MOE = ["cluster.num_gpus=8", "cluster.node=h100-x8", "stack=h100-public", "model.num_layers=2", "draws=1"]


@pytest.mark.parametrize(
    ("model", "overrides"),
    [
        (
            "llama-3.1-8b",
            ["model.num_layers=2", "model.num_dense_layers=2", "cluster.num_gpus=8", "cluster.node=h100-x8"],
        ),
        ("mixtral-8x7b", [*MOE, "parallel.ep=8", "moe.balance=forced"]),
        ("mixtral-8x7b", [*MOE, "parallel.pp=2", "training.global_batch_size=32"]),
    ],
)
def test_what_has_nothing_to_act_on_moves_no_step(model: str, overrides: list[str]) -> None:
    scenario = load_scenario({"model": model, "schema_version": 1}, [*overrides, "draws=1"])
    full = simulate_seconds(scenario)
    idle = [name for name, is_idle in IDLE.items() if is_idle(scenario)]
    assert len(idle) > len(IDLE) / 2
    for name in idle:
        key, off = OFF[name]
        forced = load_scenario(
            {"model": model, "schema_version": 1}, [*overrides, "draws=1", f"{key}={str(off).lower()}"]
        )
        assert simulate_seconds(forced) == full, name
        assert without(scenario, name) is scenario


def test_shared_experts_beside_a_dispatch_are_an_overlap_without_pairs() -> None:
    overrides = [
        "cluster.num_gpus=8", "cluster.node=h100-x8", "stack=h100-public", "parallel.ep=8", "model.num_layers=2", "draws=1",
        "parallel.overlap.ep=shared_expert",
    ]  # fmt: skip
    scenario = load_scenario({"model": "deepseek-v2-lite", "schema_version": 1}, overrides)
    off = without(scenario, "overlap of expert communication")
    assert off.parallel.overlap.ep == "none"
    assert simulate_seconds(off) > simulate_seconds(scenario)


def test_a_step_without_a_mechanism_is_the_step_of_that_scenario(plan: Scenario) -> None:
    full = simulate_seconds(plan)
    assert full == simulate_times(plan).step_s
    found = steps_without(plan, ("pp_transfer", "imbalance"), full)
    there = load_scenario({"model": "llama-3.1-8b", "schema_version": 1}, [*PIPELINE, "mechanisms.pp_transfer=false"])
    assert found["pp_transfer"] == simulate_seconds(there) < full
    assert found["imbalance"] == full


def told(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The document of two made-up rows (step 2.0 and 5.0 of 2.5 measured) without whose mechanism they take 2.5 and 5.0."""
    monkeypatch.setattr(
        ablation, "simulate_seconds", lambda scenario, stack=None: 10.0 if scenario.mechanisms.power else 9.0
    )
    rows = [
        run("a", kind="dense"), run("b", 5.0, 4.0, 6.0),
        run("c", 1.0, 0.9, 1.1, quantity="tokens_per_s_per_gpu", measured=2.0),
    ]  # fmt: skip
    found = [
        row.__class__(**{**row.__dict__, "steps_without": {"power": step_s}})
        for row, step_s in zip(rows, (2.5, 5.0, 0.5), strict=True)
    ]
    return document(found) | contributions(found, ("power",))


def test_errors_without_a_mechanism_by_kind_and_of_speeds_too(monkeypatch: pytest.MonkeyPatch) -> None:
    (entry,) = told(monkeypatch)["mechanisms"]
    assert (entry["name"], entry["key"], entry["value"], entry["moved"]) == ("power", "mechanisms.power", False, 2)
    assert (entry["dense_mape"], entry["dense_bias"]) == (0.0, 0.0)
    assert entry["moe_mape"] == pytest.approx(0.5), (
        "+100 % of the slow row; the speed's step halves, to what was measured"
    )
    assert entry["mape"] == pytest.approx(1.0 / 3.0)
    assert entry["deepseek_v3_step_s"] == 9.0


def test_the_table_and_its_place_in_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    found = told(monkeypatch)
    table = mechanisms(found)
    assert [row[0] for row in table.rows] == ["all mechanisms", "power"]
    assert table.rows[1] == (
        "power",
        "2",
        "33.3 %",
        "+33.3 %",
        "0.0 %",
        "0.0 %",
        "50.0 %",
        "+50.0 %",
        "9.000 s",
        "-10.0 %",
    )
    assert table.rows[0][2] == "73.3 %"
    text = blocks({"mechanisms": found}, "")["mechanisms"]
    assert text.startswith("Predicted on 3 rows of the table of published runs, 3 that count.")
    assert "| power | 2 |" in text


def test_on_the_command_line(
    plan: Scenario, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ablation, "load_scenario", lambda name: plan)
    path = tmp_path / "runs.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*SMALL, "step_time_s"])
        writer.writeheader()
        writer.writerows({**SMALL, "case_id": f"R-{n}", "step_time_s": "0.1"} for n in range(2))
    assert main(["validate", "--cases", str(path), "--ablate", "zero_collectives,speed_spread", "--json"]) == 0
    out = capsys.readouterr()
    assert "2 of 2 rows" in out.err
    found = json.loads(out.out)
    first, second = found["mechanisms"]
    assert (first["name"], second["name"]) == ("zero_collectives", "speed_spread")
    assert first["moved"] == 2
    assert first["bias"] < found["summary"]["bias"]
    assert first["deepseek_v3_step_s"] < found["deepseek_v3_step_s"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--ablate", "all"], "give --cases"),
        (["--cases", "x.csv", "--ablate", "powr"], "did you mean power"),
        (["--cases", "x.csv", "--ablate", "all", "--leave-out", "gpu"], "leave one of the two out"),
        (["--cases", "x.csv", "--ablate", ","], "names no mechanism"),
    ],
)
def test_what_does_not_go_together_is_refused(
    options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["validate", *options]) == 2
    assert said in capsys.readouterr().err
