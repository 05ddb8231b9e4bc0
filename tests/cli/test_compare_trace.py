"""`moesim compare TRACE SCENARIO`: both sides sum to their steps; what is no trace is refused with one message."""

from __future__ import annotations

import json
from math import fsum
from pathlib import Path
from typing import Any

import pytest

from simulator.cli.app import main
from simulator.results.trace_comparison import CLASSES
from tests.traces import kineto
from tests.traces.kineto import ADD, GATHER, GEMM, kernel, launch, step, write

SCENARIO = """
schema_version: 1
name: small
model:
  name: small
  hidden_size: 1024
  num_layers: 2
  vocab_size: 8192
  tied_embeddings: false
  attention: {kind: gqa, num_heads: 8, num_kv_heads: 2, head_dim: 128}
  num_dense_layers: 0
  moe: {num_routed_experts: 8, top_k: 2, expert_intermediate_size: 512, score: softmax}
cluster: {node: h200-x8, num_gpus: GPUS}
stack: h200-transfer
parallel: {tp: 1, pp: PP, ep: EP, schedule: 1f1b}
training: {seq_len: 2048, global_batch_size: 8, micro_batch_size: 1, optimizer: adamw-bf16}
precision: bf16
moe: {balance: forced}
recompute: none
draws: 1
phases: [{name: pretrain, tokens: 1e9}]
"""


def scenario(folder: Path, gpus: int = 1, pp: int = 1, ep: int = 1) -> str:
    path = folder / f"{gpus}-{pp}-{ep}.yaml"
    text = SCENARIO
    for word, number in (("GPUS", gpus), ("PP", pp), ("EP", ep)):
        text = text.replace(word, str(number))
    path.write_text(text)
    return str(path)


def small_trace(path: Path, long: float = 0.0, **head: object) -> str:
    events = [launch(1, 0.0), launch(2, 1.0), launch(3, 42_000.0 + long)]
    events += [kernel(GEMM, 10.0, 30_000.0, number=1), kernel(GATHER, 20_010.0, 15_000.0 + long, stream=9, number=2)]
    events += [kernel(ADD, 42_010.0 + long, 5_000.0, number=3), kernel("riddle", 47_010.0 + long, 990.0)]
    return str(write(path, events, **head))


def compared(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert main(["compare", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_both_sides_sum_to_their_steps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By hand on the trace's side; on the scenario's as `run` has them."""
    trace, beside = small_trace(tmp_path / "t.json.gz"), scenario(tmp_path)
    found = compared(capsys, trace, beside)
    assert main(["run", beside, "--json"]) == 0
    run = json.loads(capsys.readouterr().out)["step"]
    times, (predicted,) = found["trace"], found["others"]
    assert found["base"] == "t.json.gz" and times["gpus"] == ["NVIDIA H200"]
    assert predicted["step_s"] == pytest.approx(run["step_s"], rel=1e-12)
    assert times["step_s"] == pytest.approx(0.047990)
    rows = {row["class"]: row for row in times["classes"]}
    by_hand = {"gemm": 30.0, "exposed_communication": 5.0, "memory_bound": 5.0, "other": 0.99, "idle": 7.0}
    assert {name: row["trace_s"] for name, row in rows.items() if row["trace_s"]} == pytest.approx(
        {name: value / 1e3 for name, value in by_hand.items()}, rel=1e-6
    )
    assert rows["idle"]["trace_parts"] == pytest.approx({"launch_gap": 6.99e-3, "launch": 1e-5})
    assert times["launch_gap_s"] == pytest.approx(6.99e-3)
    assert times["communication"]["trace"] == pytest.approx(
        {"total_s": 0.015, "overlapped_s": 0.01, "exposed_s": 0.005}
    )
    assert times["unclassified"] == [{"name": "riddle", "seconds": pytest.approx(0.00099)}]
    for side, whole in (("trace", times["step_s"]), ("predicted", predicted["step_s"])):
        assert fsum(row[f"{side}_s"] for row in times["classes"]) == pytest.approx(whole, rel=1e-9)
        for row in times["classes"]:
            assert fsum(row[f"{side}_parts"].values()) == pytest.approx(row[f"{side}_s"], abs=1e-12)
        of_it = rows["memory_bound"]["of_it"]
        assert fsum(row[f"{side}_s"] for row in of_it) == pytest.approx(rows["memory_bound"][f"{side}_s"], rel=1e-9)
    assert {"elementwise", "norm", "softmax_loss", "permute", "index"} <= {row["class"] for row in of_it}
    changes = [part["seconds"] for part in predicted["step_difference"]]
    assert fsum(changes) == pytest.approx(predicted["step_s"] - times["step_s"], abs=1e-12)
    assert changes == sorted(changes, key=abs, reverse=True)
    assert [row["class"] for row in times["classes"]] == [name for name in CLASSES if name in rows]


def test_compute_by_class_is_that_of_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One GPU: GEMMs, experts, attention as `run` counts them by category."""
    trace, beside = small_trace(tmp_path / "t.json"), scenario(tmp_path)
    found = compared(capsys, trace, beside)["trace"]["classes"]
    rows = {row["class"]: row["predicted_s"] for row in found}
    idle = next(row["predicted_parts"] for row in found if row["class"] == "idle")
    assert main(["run", beside, "--json"]) == 0
    run = {row["category"]: row["seconds"] for row in json.loads(capsys.readouterr().out)["step"]["by_category"]}
    assert rows["gemm"] == pytest.approx(run["gemm"], rel=1e-9)
    assert rows["grouped_gemm"] == pytest.approx(run["expert_gemm"], rel=1e-9)
    assert rows["attention_fwd"] + rows["attention_bwd"] == pytest.approx(run["attention"], rel=1e-9)
    assert rows["optimizer"] + idle["end_wait"] == pytest.approx(run["optimizer"] + run["other"], rel=1e-9)
    assert idle["kernel_gaps"] == pytest.approx(run["kernel_gaps"], rel=1e-9)
    assert rows["memory_bound"] == pytest.approx(run["memory_bound"], rel=1e-9)


def test_a_file_a_rank(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ranks of two stages: each beside its own, the means beside the means; others than the scenario's GPUs are said."""
    traces = [
        small_trace(tmp_path / f"{rank}.json", 1_000.0 * rank, distributedInfo={"rank": rank, "world_size": 4})
        for rank in (1, 2)
    ]
    found = compared(capsys, *traces, scenario(tmp_path, 4, 2, 2))
    times = found["trace"]
    assert [(each["rank"], each["pp_rank"]) for each in times["by_rank"]] == [(1, 0), (2, 1)]
    assert [each["step_s"] for each in times["by_rank"]] == pytest.approx([0.04899, 0.04999])
    assert times["step_s"] == pytest.approx(0.04949)
    for each in times["by_rank"]:
        assert fsum(row["predicted_s"] for row in each["classes"]) == pytest.approx(each["predicted_step_s"], rel=1e-9)
    one, other = ({row["class"]: row["predicted_s"] for row in each["classes"]} for each in times["by_rank"])
    assert one["gemm"] != other["gemm"]
    mean = {row["class"]: row["predicted_s"] for row in times["classes"]}
    assert mean["gemm"] == pytest.approx((one["gemm"] + other["gemm"]) / 2)
    exposed = next(row["predicted_parts"] for row in times["classes"] if row["class"] == "exposed_communication")
    assert exposed["end_wait"] > 0
    communication = times["communication"]["predicted"]
    assert communication["exposed_s"] == pytest.approx(fsum(exposed.values()))
    assert communication["total_s"] > communication["overlapped_s"] >= 0
    assert found["others"][0]["warnings"] == []
    (beside,) = compared(capsys, *traces, scenario(tmp_path, 8, 2, 2))["others"]
    assert "the trace is of 4 GPUs, the scenario has 8" in beside["warnings"]


def test_another_gpu_and_overrides(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace, beside = small_trace(tmp_path / "t.json"), scenario(tmp_path)
    plain = compared(capsys, trace, beside)["others"][0]
    other = compared(
        capsys, trace, beside, "--set", "cluster.node=h100-x8", "--set", "stack=h100-transfer"
    )["others"][0]  # fmt: skip
    assert plain["warnings"] == []
    assert any("the trace is of NVIDIA H200, the scenario's GPU is h100" in line for line in other["warnings"])
    assert other["step_s"] > plain["step_s"]


@pytest.mark.parametrize("form", ["text", "markdown"])
def test_what_people_read(tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str) -> None:
    trace = small_trace(tmp_path / "t.json")
    assert main(["compare", trace, scenario(tmp_path), "-f", form]) == 0
    out = capsys.readouterr().out
    for words in (
        "small",
        "t.json",
        "48.0",
        "grouped GEMM",
        "of it elementwise",
        "exposed communication",
        "launch gap",
        "riddle",
    ):
        assert words in out
    assert "-0.0 " not in out


BAD = {
    "cut.json.gz": "cut off",
    "cut.json": "cut off",
    "foreign.json.gz": "no list traceEvents",
    "foreign.json": "no list traceEvents",
    "empty.json.gz": "empty",
    "empty.json": "empty",
    "cpu.json": "no kernel",
}


@pytest.mark.parametrize("name", BAD)
def test_bad_traces(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    path = tmp_path / name
    whole = Path(small_trace(tmp_path / f"whole-{name}"))
    if name.startswith("cut"):
        path.write_bytes(whole.read_bytes()[:-40])
    elif name == "cpu.json":
        write(path, [step(1, 0.0, 1.0)])
    else:
        path.write_bytes(b'{"a": [1]}' if name.startswith("foreign") else b"")
    assert main(["compare", str(path), scenario(tmp_path)]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and BAD[name] in captured.err
    assert len([line for line in captured.err.splitlines() if not line.startswith("warning")]) == 1


def test_one_scenario_beside_traces(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace, beside = small_trace(tmp_path / "t.json"), scenario(tmp_path)
    made_up = str(Path(__file__).parents[1] / "results" / "data" / "made_up_run.json")
    for arguments, message in (
        ([trace], "0 scenarios beside a trace"),
        ([trace, beside, beside], "2 scenarios beside a trace"),
        ([trace, made_up], "give its scenario"),
    ):
        assert main(["compare", *arguments]) == 2
        assert message in capsys.readouterr().err


def test_reference_trace_beside_its_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A trace of an H200: GEMMs, experts and attention of its model from the stack, within 10 %."""
    trace = kineto.REFERENCE / "traces" / "qwen3moe_h200.json.gz"
    if not trace.is_file():
        pytest.skip("public traces are not part of the repository")
    facts = json.loads((trace.parent / "qwen3moe_h200.info.json").read_text())
    config = facts["config"]
    path = tmp_path / "qwen.yaml"
    text = SCENARIO.replace("GPUS", "1").replace("PP", "1").replace("EP", "1")
    for old, new in (
        ("hidden_size: 1024", f"hidden_size: {config['hidden_size']}"),
        ("num_layers: 2", f"num_layers: {config['num_hidden_layers']}"),
        ("vocab_size: 8192", f"vocab_size: {config['vocab_size']}"),
        ("num_heads: 8, num_kv_heads: 2", f"num_heads: {config['num_attention_heads']}, num_kv_heads: 4"),
        ("num_routed_experts: 8, top_k: 2, expert_intermediate_size: 512",
         "num_routed_experts: 64, top_k: 8, expert_intermediate_size: 768"),
        ("seq_len: 2048, global_batch_size: 8, micro_batch_size: 1",
         f"seq_len: {facts['seq']}, global_batch_size: {facts['batch']}, micro_batch_size: {facts['batch']}"),
    ):  # fmt: skip
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)
    rows = {row["class"]: row for row in compared(capsys, str(trace), str(path))["trace"]["classes"]}
    for name in ("gemm", "grouped_gemm", "attention_fwd", "attention_bwd"):
        assert rows[name]["predicted_s"] == pytest.approx(rows[name]["trace_s"], rel=0.10)
