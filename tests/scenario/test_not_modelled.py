"""What is planned is refused with what to do instead, and stands nowhere else; what is offered can be chosen."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from simulator import load_scenario, not_modelled
from simulator.check import FAMILIES, scenario_schema
from simulator.cli.app import main
from simulator.errors import InputError
from simulator.not_modelled import Planned

SCHEMA = scenario_schema()
KEYS = not_modelled.entries("key")
VALUES = not_modelled.entries("value")
ONE_VALUE = {"schema_version", "currency"}
"""Keys that say which format a file is in."""


def option(name: str, value: str) -> str:
    """An override of the DeepSeek-V3 preset, whose one phase has a ramp."""
    return f"{name.replace('*', 'pretrain')}={value}"


def offered(schema: Any = SCHEMA, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """(dotted key, schema) of every key, * for the entries of a list."""
    if "$ref" in schema:
        schema = SCHEMA["definitions"][schema["$ref"].rpartition("/")[2]]
    for alternative in schema.get("anyOf", ()):
        yield from offered(alternative, path)
    if "items" in schema and "$ref" in schema["items"]:
        yield from offered(schema["items"], f"{path}.*")
    for key, entry in schema.get("properties", {}).items():
        here = f"{path}.{key}".lstrip(".")
        yield here, entry
        yield from offered(entry, here)


def choices(schema: dict[str, Any]) -> float:
    """How many values a key may have; infinite where its type lists none."""
    if "$ref" in schema:
        return float("inf")
    if "const" in schema or schema.get("type") == "null":
        return 1
    if schema.get("type") == "boolean":
        return 2
    if "enum" in schema:
        return len(schema["enum"])
    return sum(map(choices, schema["anyOf"])) if "anyOf" in schema else float("inf")


@pytest.mark.parametrize("entry", KEYS, ids=lambda entry: entry.name)
def test_a_planned_key_is_refused_unless_it_says_how_things_are(entry: Planned) -> None:
    with pytest.raises(InputError) as caught:
        load_scenario("deepseek-v3", ["seed=1", option(entry.name, "surprise")])
    (problem,) = caught.value.problems
    assert problem.where == "overrides[1]"
    assert problem.field == entry.name.replace("*", "pretrain")
    assert problem.message == f'not modelled yet ("surprise"); {entry.instead}'
    assert entry.now
    for value in entry.now:
        assert load_scenario("deepseek-v3", [option(entry.name, json.dumps(value))]) == load_scenario("deepseek-v3")


@pytest.mark.parametrize("option", ["reliability=false"])
def test_a_switch_is_no_number(option: str) -> None:
    with pytest.raises(InputError, match="not modelled yet"):
        load_scenario("deepseek-v3", [option])


@pytest.mark.parametrize(("entry", "value"), [(entry, value) for entry in VALUES for value in entry.values])
def test_a_planned_value_is_refused_with_what_there_is(entry: Planned, value: str) -> None:
    if entry.name == "cluster.fabric.topology":
        assert "not modelled yet; use one of fat_tree" in str(FAMILIES["topology"].problem(value))
        return
    with pytest.raises(InputError) as caught:
        load_scenario("deepseek-v3", ["seed=1", option(entry.name, value)])
    (problem,) = caught.value.problems
    assert (problem.where, problem.field) == ("overrides[1]", entry.name)
    assert "not modelled yet" in problem.message
    assert (entry.instead or "; use ") in problem.message


@pytest.mark.parametrize("kind", ["command", "catalogue"])
def test_a_planned_command_or_catalogue_is_refused(kind: not_modelled.Kind, capsys: pytest.CaptureFixture[str]) -> None:
    for entry in not_modelled.entries(kind):
        assert main([entry.name] if kind == "command" else ["list", entry.name]) == 2
        refusal = capsys.readouterr().err
        assert "not modelled yet" in refusal
        assert entry.instead in refusal


def test_no_planned_key_and_no_planned_value_is_offered() -> None:
    keys = dict(offered())
    assert not {entry.name for entry in KEYS} & set(keys)
    for entry in VALUES:
        if entry.name in keys:
            assert not any(f"'{value}'" in str(keys[entry.name]) for value in entry.values), entry.name


def test_every_key_that_is_offered_has_at_least_two_values() -> None:
    keys = dict(offered())
    assert {"parallel.schedule", "phases.*.batch_ramp.schedule_below", "moe.balance", "cluster.fabric"} <= set(keys)
    assert {key for key, schema in keys.items() if choices(schema) < 2} == ONE_VALUE


@pytest.mark.parametrize(
    ("key", "family"),
    [
        ("parallel.schedule", "schedule"),
        ("phases.*.batch_ramp.schedule_below", "schedule"),
        ("precision.recipe", "precision recipe"),
    ],
)
def test_names_in_the_schema_are_the_familys(key: str, family: str) -> None:
    schema = dict(offered())[key]
    found = next(entry for entry in (schema, *schema.get("anyOf", ())) if "enum" in entry)
    assert found["enum"] == list(FAMILIES[family].names())


def test_a_file_with_every_key_loads_as_far_as_its_values_run(tmp_path: Path) -> None:
    path = tmp_path / "all.yaml"
    path.write_text(EVERY_KEY)
    scenario = load_scenario(path)
    plain = load_scenario("deepseek-v3", ["phases.pretrain.batch_ramp.over_tokens=469e9", "moe.row_padding=128"])
    assert scenario == plain


EVERY_KEY = """
schema_version: 1
name: deepseek-v3
extends: null
model: deepseek-v3
cluster: {node: h800-x8, num_gpus: 2048, fabric: ib-400g-8plane, gpus_per_domain: null}
stack: h800-deepseek-2024
kernels: {attention: null, grouped_gemm: null}
framework: deepseek@2024
parallel:
  {tp: 1, cp: 1, pp: 16, vpp: 1, ep: 64, etp: 1, zero_stage: 1, sequence_parallel: false,
  rank_order: tp-cp-ep-dp-pp, cp_comm: ring, schedule: dualpipe, layers_per_stage: null,
  overlap: {ep: pair, dp: true, pp: true, tp: none}, comm_sms: 20}
data_parallel: {param_gather: {overlap: false, dtype: bf16}, grad_reduce: {overlap: true, dtype: fp32},
  bucket_bytes: null, hsdp_group: null, reshard_after_forward: true,
  sharded_copies: none}
training: {seq_len: 4096, global_batch_size: 15360, micro_batch_size: 1, optimizer: adamw-bf16-moments, packing: none,
  padding_fraction: 0}
precision: {recipe: fp8-blockwise, head: bf16, attention: bf16, wgrad_accumulate: fp32, fp8_weight_cache: per_step}
moe: {dispatcher: deepep, dispatch_dtype: fp8, combine_dtype: bf16, max_nodes_per_token: 4, balance: learned,
  capacity_factor: null, drop: none, row_padding: 128, permute_fusion: true, host_sync: per_layer}
recompute: {granularity: selective, modules: [rmsnorm, mla_up_proj, swiglu], saved: {attn_out: e5m6, swiglu_in: fp8}}
head: {cross_entropy: fused, vocab_padding: 128, chunk_tokens: null}
host: {cuda_graph: none, launch_s: null}
device: {power_cap_w: null, clock: sustained, speed_cv: null}
phases:
  - {name: pretrain, kind: pretrain, tokens: 14.8e12,
     batch_ramp: {from: 3072, over_tokens: 469e9, shape: linear, schedule_below: 1f1b}}
reliability: null
prices: {usd_per_gpu_hour: 2.0}
assumptions: {}
mechanisms: {}
draws: 32
seed: 0
"""
"""The documented example, with values that run."""
