"""Where an error stands: at the key that was given last of those that its rule compares."""

from __future__ import annotations

from pathlib import Path

import pytest

from simulator import load_scenario
from simulator.check import check_scenario
from simulator.errors import InputError, Problem

LAYOUT = [4] * 15 + [1]
SMALL_RAMP = """parallel: {schedule: 1f1b}
phases: [{name: pretrain, tokens: 1e12, batch_ramp: {from: 128, over_tokens: 1e10, shape: linear}}]
"""
SMALL_BATCH = """parallel: {schedule: 1f1b}
training: {global_batch_size: 2048}
phases: [{name: a, steps: 1}]
"""

CASES = [
    # field whose rule it is, what the file says of it, the option that breaks the rule
    ("cluster.num_gpus", "", "parallel.pp=6"),
    ("parallel.pp", "parallel: {pp: 40, ep: 1, schedule: 1f1b}\ncluster: {num_gpus: 40}\n", "model=llama-3.1-8b"),
    ("parallel.pp", "parallel: {pp: 5, schedule: 1f1b}\ncluster: {num_gpus: 640}\n", "parallel.schedule=dualpipe"),
    ("parallel.ep", "", "model=mixtral-8x22b"),
    ("parallel.tp", "parallel: {tp: 2, sequence_parallel: true}\n", "model.attention.num_heads=127"),
    ("parallel.ep", "", "cluster.num_gpus=512"),
    ("parallel.ep", "cluster: {num_gpus: 1024}\n", "parallel.pp=32"),
    ("parallel.layers_per_stage", f"parallel: {{layers_per_stage: {LAYOUT}}}\n", "model.num_layers=60"),
    ("training.global_batch_size", "", "training.micro_batch_size=7"),
    ("training.global_batch_size", "", "parallel.pp=1"),
    ("training.global_batch_size", "parallel: {ep: 32}\n", "cluster.num_gpus=3584"),
    ("training.global_batch_size", SMALL_BATCH,
     "parallel.schedule=dualpipe"),
    ("phases.pretrain.batch_ramp.from", "", "training.micro_batch_size=5"),
    ("phases.pretrain.batch_ramp.from", "", "training.global_batch_size=1536"),
    ("phases.pretrain.batch_ramp.from", "", "parallel.pp=1"),
    ("phases.pretrain.batch_ramp.from", "parallel: {ep: 32}\n", "cluster.num_gpus=3584"),
    ("phases.pretrain.batch_ramp.from", SMALL_RAMP, "parallel.schedule=dualpipe"),
    ("moe.max_nodes_per_token", "moe: {max_nodes_per_token: 1}\n", "model.moe.top_k=64"),
    ("parallel.pp", "", "model.num_layers=12"),
    ("parallel.ep", "", "model.moe.num_routed_experts=224"),
    ("model.num_dense_layers", "model: {num_dense_layers: 40}\n", "model.num_layers=39"),
    ("model.moe.top_k", "model: {moe: {top_k: 16}}\n", "model.moe.num_routed_experts=8"),
    ("model.moe.num_expert_groups", "model: {moe: {num_expert_groups: 8}}\n", "model.moe.num_routed_experts=252"),
    ("precision.recipe", "", "cluster.node=a100-x8"),
    ("recompute.modules", "recompute: {modules: []}\nextends: llama-3.1-70b\n", "recompute.granularity=selective"),
    ("parallel.overlap.ep", "", "parallel.schedule=1f1b"),
    ("parallel.comm_sms", "parallel: {comm_sms: 120}\n", "cluster.node=a100-x8"),
    ("parallel.comm_sms", "parallel: {comm_sms: 0, ep: 1}\n", "parallel.ep=8"),
    ("prices.usd_per_gpu_hour", "", "cluster.node=h100-x8"),
    ("parallel.overlap.pp", "parallel: {schedule: 1f1b, overlap: {pp: false}}\n", "parallel.schedule=dualpipe"),
    ("data_parallel.hsdp_group", "parallel: {schedule: 1f1b}\ndata_parallel: {hsdp_group: 64}\n", "parallel.ep=128"),
    ("parallel.zero_stage", "extends: llama-3.1-70b\nparallel: {zero_stage: 3}\n"
     "recompute: {granularity: full, method: block, num_layers: 2}\n", "recompute.method=uniform"),
    ("moe.max_nodes_per_token", "cluster: {num_gpus: 8192}\nparallel: {schedule: 1f1b}\nmoe: {max_nodes_per_token: 1}\n",
     "parallel.etp=8"),
    ("head.logits", "parallel: {tp: 2, sequence_parallel: true}\nhead: {logits: gathered}\n", "parallel.tp=1"),
    ("parallel.pipeline_buffers", "extends: llama-3.1-70b\nparallel: {pipeline_buffers: per_micro_batch}\n", "parallel.pp=1"),
]  # fmt: skip


def told(path: Path, option: str) -> list[Problem | str]:
    """Errors, or warnings where the scenario is sound."""
    try:
        scenario = load_scenario(path, [option])
        check_scenario(scenario)
    except InputError as error:
        return list(error.problems)
    return list(scenario.warnings)


@pytest.mark.parametrize(("field", "text", "option"), CASES, ids=[f"{field}-{option}" for field, _, option in CASES])
def test_an_error_stands_at_the_option_that_broke_the_rule(field: str, text: str, option: str, tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    head = "" if "extends" in text else "extends: deepseek-v3\n"
    path.write_text(f"schema_version: 1\nname: own\n{head}{text}")
    found = [str(each) for each in told(path, option)]
    said = (f"overrides[0]: {option.partition('=')[0]}: does not fit {field}: ", f"overrides[0]: {field}: ")
    assert any(each.startswith(said) for each in found), found


def test_a_rule_within_one_file_is_of_the_key_that_it_is_about(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(
        "schema_version: 1\nextends: deepseek-v3\ntraining: {global_batch_size: 64}\ncluster: {num_gpus: 1024}\n"
    )
    problems = [each for each in told(path, "seed=1") if isinstance(each, Problem)]
    assert ("training.global_batch_size", f"{path}:3") in [(problem.field, problem.where) for problem in problems]


def test_of_two_options_the_later_one_broke_the_rule() -> None:
    for options in (["cluster.num_gpus=2040", "parallel.pp=7"], ["parallel.pp=7", "cluster.num_gpus=2040"]):
        with pytest.raises(InputError) as caught:
            load_scenario("deepseek-v3", options)
        found = [(each.where, each.field) for each in caught.value.problems if "do not divide by pp 7" in each.message]
        assert found == [("overrides[1]", options[1].partition("=")[0])]


@pytest.mark.parametrize(
    ("option", "field", "rule"),
    [
        ("model.moe.num_routed_experts=257", "model.moe.num_routed_experts", "model.moe.num_expert_groups"),
        ("training.global_batch_size=128", "training.global_batch_size", "phases.pretrain.batch_ramp.from"),
        ("model=deepseek-v2-lite", "model", "model.dense_ffn.intermediate_size"),
    ],
)
def test_what_was_given_is_blamed_and_not_what_stood_there(option: str, field: str, rule: str) -> None:
    with pytest.raises(InputError) as caught:
        load_scenario("deepseek-v3", ["seed=1", option])
    assert {(each.where, each.field) for each in caught.value.problems} == {("overrides[1]", field)}
    assert any(each.message.startswith(f"does not fit {rule}: ") for each in caught.value.problems)


def test_problems_come_in_the_order_of_the_files_and_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(
        "schema_version: 1\nextends: deepseek-v3\nseed: -1\nparallel:\n  tp: 0\n  schedule: zb_h2\n"
        "prices: {usd_per_gpu_hour: -1}\nprecision: fp9\n"
    )
    with pytest.raises(InputError) as caught:
        load_scenario(path, ["host.cuda_graph=full", "draws=0", "parallel.pp=0"])
    assert [each.where.removeprefix(f"{path}:") for each in caught.value.problems] == [
        "3", "5", "6", "7", "8", "overrides[0]", "overrides[1]", "overrides[2]",
    ]  # fmt: skip


def test_broken_rules_come_in_the_order_of_the_lines_too(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(
        "schema_version: 1\nextends: deepseek-v3\nphases: [{name: a, steps: 1, tokens: 1}]\n"
        "recompute: {granularity: none, modules: [swiglu]}\ntraining: {global_batch_size: 100}\nparallel: {ep: 48}\n"
    )
    with pytest.raises(InputError) as caught:
        load_scenario(path)
    lines = [int(each.where.removeprefix(f"{path}:")) for each in caught.value.problems]
    assert lines == sorted(lines)
    assert set(lines) == {3, 4, 5, 6}
