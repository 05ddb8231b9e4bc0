"""Law: whatever a scenario says, there is a result or an error of ours, never another exception."""

from __future__ import annotations

import json
import math
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator import load_scenario
from simulator.errors import InputError
from simulator.scenario.recipes import RECIPES
from simulator.schedule import SCHEDULES
from tests.laws.runs import simulate
from tests.laws.scenarios import LAW, Document, scenarios
from tests.scenario.test_not_modelled import offered

ODD: dict[str, tuple[Any, ...]] = {
    "model.hidden_size": (1, 3, 127, 129, 65_536),
    "model.num_layers": (1, 61),
    "model.vocab_size": (1, 127, 129),
    "model.num_dense_layers": (0, 1, 12),
    "model.attention.num_heads": (1, 3, 128),
    "model.attention.kv_lora_rank": (1, 7),
    "model.attention.q_lora_rank": (0, 1),
    "model.attention.qk_nope_head_dim": (1, 192),
    "model.attention.head_dim": (1, 192, 256),
    "model.dense_ffn.intermediate_size": (1, 129),
    "model.moe.num_routed_experts": (1, 16, 2048),
    "model.moe.top_k": (1, 16, 64),
    "model.moe.num_shared_experts": (0, 50),
    "model.moe.expert_intermediate_size": (1, 65),
    "model.moe.num_expert_groups": (1, 2, 16),
    "model.moe.max_groups_per_token": (1, 2),
    "model.mtp.num_modules": (3, 16),
    "cluster.node": (
        "a100-x8", "h100-x8", "h200-x8", "h20-x8", "b200-x8", "gb200-nvl72", "mi300x-x8", "mi355x-x8",
    ),
    "cluster.fabric": ("ib-200g-rail", "ib-800g-rail", "roce-400g-rail"),
    "cluster.num_gpus": (1, 3, 8, 72, 144, 16_384, 1_000_000),
    "stack": ("h800-transfer", "h100-transfer", "b200-transfer", "mi300x-transfer"),
    "parallel.pp": (1, 2, 5, 12),
    "parallel.ep": (1, 3, 8, 32),
    "parallel.schedule": (*SCHEDULES, "zb_h2"),
    "parallel.comm_sms": (0, 1, 77, 131, 132),
    "parallel.layers_per_stage": (None, [1, 1], "E m L"),
    "training.seq_len": (1, 2, 63, 65_537, 1_000_000),
    "training.micro_batch_size": (3, 1000),
    "training.global_batch_size": (1, 7, 100_000_000),
    "precision.recipe": (*RECIPES, "int8"),
    "moe.max_nodes_per_token": (1, 2, 100),
    "moe.balance": ("learned", "natural", {"load_imbalance": 1.0}, {"load_imbalance": 15.9}, {"load_imbalance": 900.0}),
    "moe.row_padding": (1, 256),
    "head.vocab_padding": (1, 1000),
    "device.speed_cv": (0.2, 1e-12),
    "assumptions.routing_concentration": (1e-6, 1e9, 0.0, -1.0),
    "assumptions.expert_popularity_cv": (0.0, 10.0, 1e6),
    "assumptions.bias_update_rate": (0.0, 10.0),
    "assumptions.aux_loss_pressure": (0.0, 100.0),
    "assumptions.expert_popularity_drift_cv": (0.0, 2.0),
    "assumptions.memory_fragmentation_frac": (0.0, 1.0, -0.5),
    "assumptions.memory_expert_rows_frac": (0.0, 3.0),
    "assumptions.memory_dispatch_granularity_bytes": (1.0, 0.0),
    "assumptions.lone_chunk_full_sms": (-1.0, 2.0),
    "assumptions.gpu_speed_cv": (0.0, 3.0, -1.0),
    "mechanisms.stage_imbalance": (False,),
    "mechanisms.node_limited_dispatch": (False,),
    "draws": (3,),
    "seed": (2**63 - 1,),
}  # fmt: skip
"""Key → values at or over an edge."""

CHANGES = st.lists(
    st.sampled_from(sorted(ODD)).flatmap(lambda key: st.tuples(st.just(key), st.sampled_from(ODD[key]))),
    min_size=1, max_size=3,
)  # fmt: skip


def put(document: Document, key: str, value: Any) -> None:
    """Sets a dotted key; those of a model only where it has them (a dense one has no experts)."""
    *sections, last = key.split(".")
    for section in sections:
        if section not in document and key.startswith("model."):
            return
        document = document.setdefault(section, {})
    if last in document or not key.startswith("model."):
        document[last] = value


@settings(LAW, max_examples=40)
@given(scenarios(), CHANGES)
def test_a_result_or_an_error_of_ours(document: Document, changes: list[tuple[str, Any]]) -> None:
    odd = deepcopy(document)
    for key, value in changes:
        put(odd, key, value)
    try:
        step_s = simulate(odd).step_s
    except InputError as error:
        assert all(problem.field and problem.message for problem in error.problems), str(error)
    else:
        assert math.isfinite(step_s) and step_s > 0


EDGES: dict[str, tuple[Any, ...]] = {
    "integer": (0, 1, 2, 3, 5, 7, 8, 13, 64, 100, 128, 257, 2049, 4096, 65_537, 10**7),
    "number": (0, 0.5, 1, 1.5, 64, 1e6, 14.8e12),
    "boolean": (True, False),
    "string": ("", "x", "h100-x8", "none"),
    "null": (None,),
    "array": ([], [1, 2], ["swiglu"]),
    "object": ({}, {"load_imbalance": 1.3}),
}
"""Type in the JSON Schema → values that somebody may try."""


def tried(schema: dict[str, Any]) -> tuple[Any, ...]:
    """Values of a key: those that its type lists, or the edges of its kind."""
    if "anyOf" in schema:
        return tuple(value for entry in schema["anyOf"] for value in tried(entry))
    kinds = schema.get("type", "object")
    edges = [value for kind in ([kinds] if isinstance(kinds, str) else kinds) for value in EDGES[kind]]
    return tuple(schema.get("enum", edges))


def typed(value: Any) -> str:
    """The value as an option gives it."""
    return json.dumps(value)


PLAUSIBLE = {
    **{key.replace("phases.*", "phases.pretrain"): tried(schema) for key, schema in offered()},
    **{key: tuple(values) for key, values in ODD.items()},
    "cluster.num_gpus": (8, 16, 17, 1024, 2040, 2056, 4096, 16_384, 10**7),
    "model": ("kimi-k2", "mixtral-8x7b", "llama-3.1-8b", "qwen3-30b-a3b"),
}
"""Key → values, every key that the schema offers among them."""

OPTIONS = st.lists(
    st.sampled_from(sorted(key for key, values in PLAUSIBLE.items() if values)).flatmap(
        lambda key: st.sampled_from(PLAUSIBLE[key]).map(lambda value: f"{key}={typed(value)}")
    ),
    min_size=1, max_size=4,
)  # fmt: skip


@settings(LAW, max_examples=100)
@given(st.sampled_from(["deepseek-v3", "mixtral-8x22b", "llama-3.1-70b"]), OPTIONS)
def test_any_options_together_are_a_scenario_or_problems_with_key_and_position(preset: str, options: list[str]) -> None:
    try:
        scenario = load_scenario(preset, options)
    except InputError as error:
        for problem in error.problems:
            assert problem.field, str(problem)
            assert problem.where.startswith("overrides["), str(problem)
            assert problem.message
    else:
        assert load_scenario(scenario.canonical()) == scenario
        assert all(": " in warning for warning in scenario.warnings)


@pytest.mark.parametrize(
    ("option", "field"),
    [
        ("parallel.ep=4096", "parallel.ep"),
        ("moe.balance={load_imbalance: 100}", "moe.balance"),
        ("assumptions.routing_concentration=0", "assumptions.routing_concentration"),
        ("model.moe.num_routed_experts=257", "model.moe.num_routed_experts"),
        ("training.global_batch_size=128", "training.global_batch_size"),
        ("model.hidden_size=7169", "model.hidden_size"),
        ("cluster.num_gpus=1000000", "cluster.num_gpus"),
        ("parallel.vpp=2", "parallel.vpp"),
    ],
)
def test_a_single_option_is_blamed(option: str, field: str) -> None:
    with pytest.raises(InputError) as caught:
        load_scenario("deepseek-v3", ["seed=1", option])
    assert {(problem.where, problem.field) for problem in caught.value.problems} == {("overrides[1]", field)}
