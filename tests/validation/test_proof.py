"""Predicted layers and steps beside measured ones: what is paired, summed up and told."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hwprofiles.proof_cases import layer_cases, step_cases
from hwprofiles.proof_cases.layer_cases import LayerCase, moe_layer, proved
from hwprofiles.proof_cases.step_cases import StepCase
from hwprofiles.proof_cases.step_cases import proved as proved_steps
from hwprofiles.proof_cases.step_cases import small as small_steps
from simulator.cli.app import app
from simulator.errors import InputError
from simulator.step.prepared import prepare
from simulator.workload.op import Op
from validation.proof import __main__ as command
from validation.proof import compare, scenarios
from validation.proof.predict import LAYER_COLUMNS, STEP_COLUMNS, layer_operators, layer_rows, step_rows
from validation.proof.scenarios import layer_scenario, step_scenario
from validation.proof.tables import document, tables

STACK, NODE = "h100-public", "h100-x8"
WAITED = "host.torch_model.bf16.waited_f_s"
LAYER = {
    "name": "one", "phase": "F", "seconds": "2.0", "kind": "moe", "recipe": "bf16", "note": "",
}  # fmt: skip
STEP = {
    "name": "two", "recipe": "bf16", "issue": "eager", "recompute": "", "forward_s": "1.0", "backward_s": "2.0",
    "optimizer_s": "1.0", "step_s": "4.0", "peak_bytes": "100", "note": "",
}  # fmt: skip
OF_LAYER = {"name": "one", "phase": "F", "seconds": "2.2", "launches": "3"}
OF_STEP = {
    "name": "two", "forward_s": "1.1", "backward_s": "2.0", "optimizer_s": "0.8", "step_s": "3.8", "peak_bytes": "90",
}  # fmt: skip


def test_figures_are_paired_by_name_and_pass_and_summed_by_goal() -> None:
    lost = {**LAYER, "name": "lost", "seconds": "", "note": "not enough memory on the GPU"}
    proof = compare.compared("proof-x", [OF_LAYER, {**OF_LAYER, "name": "never"}], [LAYER, lost], [OF_STEP], [STEP])
    errors = {(figure.name, figure.what): figure.error for figure in proof.figures}
    assert errors["one", "F"] == pytest.approx(0.1) and errors["two", "step_s"] == pytest.approx(-0.05)
    assert errors["two", "peak_bytes"] == pytest.approx(-0.1) and len(errors) == 6
    assert proof.missing == ("lost: not enough memory on the GPU", "never: not measured", "lost: not predicted")
    goals = document(proof)["goals"]
    assert goals["layers"]["max_abs_error"] == pytest.approx(0.1) and goals["steps"]["count"] == 1
    told = [[cell for row in table.rows for cell in row] for table in tables(proof)]
    assert "10.0%" in told[0] and "2.200 s" not in told[3] and "2200.000 ms" in told[3]


def written(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_validate_prints_a_proof_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "PREDICTED", tmp_path)
    monkeypatch.setattr(compare, "MEASURED", tmp_path)
    compare.load_proof.cache_clear()
    written(tmp_path / "x1-layers.csv", [OF_LAYER])
    written(tmp_path / "x1-steps.csv", [OF_STEP])
    assert compare.proof_names() == ()  # nothing measured yet
    written(tmp_path / "x1-proof-layers-2026-01-01.csv", [{**LAYER, "seconds": "9.0"}])
    written(tmp_path / "x1-proof-layers-2026-02-01.csv", [LAYER])
    assert compare.proof_names() == ()  # of its steps nothing
    written(tmp_path / "x1-proof-steps-2026-02-01.csv", [STEP])
    assert compare.proof_names() == ("proof-x1",)
    runner = CliRunner()
    shown = runner.invoke(app, ["validate", "proof-x1"])
    assert shown.exit_code == 0 and "proof-x1: layers alone" in shown.output and "+10.0%" in shown.output
    found = json.loads(runner.invoke(app, ["validate", "proof-x1", "--json"]).output)
    assert [each["name"] for each in found["proofs"]] == ["proof-x1"]
    wrong = runner.invoke(app, ["validate", "proof-x2"])
    assert isinstance(wrong.exception, InputError) and "proof-x2" in str(wrong.exception)
    compare.load_proof.cache_clear()
    with pytest.raises(InputError):
        compare.load_proof("proof-x2")


def test_predictions_of_a_few_cases_are_written_and_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("COLUMNS", "140")  # room for whole names
    layer, step = next(iter(proved())), next(iter(small_steps()))
    monkeypatch.setattr(layer_cases, "proved", lambda: iter([layer]))
    monkeypatch.setattr(step_cases, "proved", lambda: iter([step]))
    assert command.main(["predict", STACK, "-o", str(tmp_path / "x1")]) == 0
    layers, steps = (compare.read(tmp_path / f"x1-{kind}.csv") for kind in ("layers", "steps"))
    assert list(layers[0]) == list(LAYER_COLUMNS) and list(steps[0]) == list(STEP_COLUMNS)
    seconds = {row["phase"]: float(row["seconds"]) for row in layers}
    assert seconds["B"] == pytest.approx(seconds["I"] + seconds["W"], rel=1e-4) and min(seconds.values()) > 0
    parts = [float(steps[0][f"{part}_s"]) for part in ("forward", "backward", "optimizer")]
    assert sum(parts) == pytest.approx(float(steps[0]["step_s"]), rel=0.02)
    written(tmp_path / "layers.csv", [{**LAYER, "name": layer.name}])
    written(tmp_path / "steps.csv", [{**STEP, "name": step.name}])
    assert command.main(["compare", str(tmp_path / "x1"), str(tmp_path)]) == 0
    assert layer.name in capsys.readouterr().out
    assert command.main(["predict", "no-such-stack", "-o", str(tmp_path / "x1")]) == 2
    assert "no-such-stack" in capsys.readouterr().err


def test_what_every_case_runs_is_known_and_has_its_half_of_the_layer() -> None:
    """Every measured layer's operators: products of its own half alone."""
    products = {
        "moe": {"router", "expert_up", "expert_down"}, "dense": {"ffn_up", "ffn_down"}, "head": {"head"},
        "gqa": {"qkv", "o"}, "mla": {"q_down", "kv_down", "kv_up", "o"},
    }  # fmt: skip
    for case in list(proved())[::4]:
        step = prepare(layer_scenario(case, STACK, NODE))
        ops = layer_operators(step, case)
        forward = {op.name for op in ops if op.shape.bound == "gemm" and op.phase == "F"}
        assert products[case.kind] <= forward | {"shared_up", "shared_down"}, case.name
        wrong = {"moe": "qkv", "dense": "qkv", "head": "qkv", "gqa": "ffn_up", "mla": "ffn_up"}[case.kind]
        assert wrong not in forward
        norms = [op.name for op in ops if op.shape.op == "rmsnorm"]
        assert ("ffn_norm" in norms) == (case.kind in ("moe", "dense")) and ("final_norm" in norms) == (
            case.kind == "head"
        )


def test_uneven_loads_take_longer_and_more_tokens_do() -> None:
    even = next(case for case in proved() if case.kind == "moe" and case.load == "even" and case.recipe == "bf16")
    cases = [even, replace(even, load="skewed"), replace(even, tokens=2 * even.tokens)]
    rows = {(row["name"], row["phase"]): row["seconds"] for row in layer_rows(cases, STACK, NODE)}
    for phase in ("F", "I", "W"):
        first, skewed, double = (rows[case.name, phase] for case in cases)
        assert skewed >= first and double > 1.1 * first


def test_steps_of_more_micro_batches_and_of_recompute_take_longer_and_peak_as_they_must() -> None:
    base = next(iter(small_steps()))
    ways: dict[str, StepCase] = {
        "once": base, "four": StepCase(base.values, tokens=32, micro_batches=4),
        "again": StepCase(base.values, tokens=32, recompute=("layer",)),
    }  # fmt: skip
    found = dict(zip(ways, step_rows(ways.values(), STACK, NODE), strict=True))
    assert found["four"]["forward_s"] > 3.5 * found["once"]["forward_s"]
    assert found["again"]["backward_s"] > found["once"]["backward_s"] and found["four"]["optimizer_s"] == (
        pytest.approx(found["once"]["optimizer_s"])
    )
    assert found["again"]["peak_bytes"] <= found["once"]["peak_bytes"] <= found["four"]["peak_bytes"]


def test_every_proved_step_can_be_predicted() -> None:
    for case in list(proved_steps())[::5]:
        scenario = step_scenario(case, STACK, NODE)
        assert scenario.kernels.modules == "moesim-torch" and scenario.cluster.num_gpus == 1


def test_an_operator_is_of_one_half_only() -> None:
    case = next(case for case in proved() if case.kind == "moe")
    step = prepare(layer_scenario(case, STACK, NODE))
    whole = {op.name for op in step.workload.stages[0].units[0].ops() if not op.name.startswith("embedding")}
    halves: list[Sequence[Op]] = [
        layer_operators(step, type(case)(kind, case.recipe, case.values, case.tokens)) for kind in ("moe",)
    ]
    ffn = {op.name for op in halves[0]}
    assert ffn < whole and all("qkv" in name or "attn" in name or name in ("o", "attention") or "rope" in name
                               or name.startswith(("o_", "attention", "v_contiguous")) for name in whole - ffn)  # fmt: skip


def test_the_committed_proof_holds_what_it_is_said_to_hold() -> None:
    """Predictions as they were committed, before: layers and memory within their goals, steps of CUDA graphs too."""
    compare.load_proof.cache_clear()
    proof = compare.load_proof("proof-h100")
    goals = document(proof)["goals"]
    assert goals["layers"]["count"] == 136 and goals["layers"]["mean_abs_error"] < 0.03
    assert goals["memory"]["count"] == 33 and goals["memory"]["max_abs_error"] < 0.05
    graphs = [figure for figure in proof.figures if figure.of == "steps" and " graph" in figure.group]
    assert len(graphs) == 7 and max(abs(figure.error) for figure in graphs) < 0.03


def test_a_step_begins_behind_a_wait_whose_seconds_its_stack_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the host issues it; a graph is one call."""
    known = scenarios.load_stack("h100-measured")
    one = known.parameters["host.torch_model.bf16.head_f_s"]
    waits = replace(known, parameters={**known.parameters, WAITED: one})
    monkeypatch.setattr(scenarios, "load_stack", lambda name: waits)
    cases = [replace(next(small_steps()), issue=issue) for issue in ("eager", "graph")]
    found = [step_scenario(case, "h100-measured", NODE).assumptions["host_other_s"] for case in cases]
    assert [each.value for each in found] == [one.value, 0.0]
    assert (found[0].low, found[0].high) == (one.low, one.high)


def test_a_proof_says_what_was_measured_between_its_steps() -> None:
    notes = {
        name: tables(compare.compared(name, [], [], [OF_STEP], [STEP]))[0].note for name in ("x-drawn-steps", "x-drawn")
    }
    assert "between the steps" in notes["x-drawn-steps"] and "between" not in notes["x-drawn"]


@pytest.mark.parametrize("recipe", ["fp8-blockwise", "fp8-row"])
@pytest.mark.parametrize("load", ["even", "skewed"])
def test_rows_that_do_not_fit_are_spread_once(recipe: str, load: Any) -> None:
    """1,365 rows on the mean are no multiple of 4: their spread is counted with the layer, not again with its loads."""
    values = moe_layer(1024, experts=12, top_k=8, width=512, shared=0)
    case = LayerCase("moe", recipe, values, 2048, load=load)
    names = [op.name for op in layer_operators(prepare(layer_scenario(case, STACK, NODE)), case)]
    spread = [name for name in names if name.endswith(("_spread", "_zeros"))]
    assert len(spread) == len(set(spread)) == 8
