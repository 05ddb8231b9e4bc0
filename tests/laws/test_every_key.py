"""Nothing is ignored: every key, set to another legal value where it has meaning, changes the result or brings a warning."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from functools import cache
from typing import Any

import pytest

from simulator import load_scenario, simulate_run
from simulator.check import scenario_schema
from tests.laws.runs import changed
from tests.laws.scenarios import Document

GQA: Document = {"kind": "gqa", "num_heads": 16, "num_kv_heads": 4, "head_dim": 64}
MLA: Document = {
    "kind": "mla", "num_heads": 8, "q_lora_rank": 256, "kv_lora_rank": 128, "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64, "v_head_dim": 128,
}  # fmt: skip
EXPERTS: Document = {
    "num_routed_experts": 32, "top_k": 4, "expert_intermediate_size": 512, "score": "sigmoid", "router_bias": True,
    "num_expert_groups": 4, "max_groups_per_token": 2,
}  # fmt: skip
MODEL: Document = {
    "name": "small", "hidden_size": 1024, "num_layers": 4, "vocab_size": 8000, "num_dense_layers": 1,
    "dense_ffn": {"intermediate_size": 2048}, "attention": MLA, "moe": EXPERTS,
}  # fmt: skip
SMALL: Document = {
    "name": "small",
    "model": MODEL,
    "cluster": {"node": "h800-x8", "num_gpus": 32, "fabric": "ib-400g-rail"},
    "parallel": {"pp": 2, "ep": 16, "schedule": "1f1b"},
    "training": {"seq_len": 1024, "global_batch_size": 64},
    "precision": {"recipe": "bf16"},
    "phases": [{"name": "pretrain", "tokens": 1e12}],
    "prices": {"usd_per_gpu_hour": 2.0},
    "draws": 1,
}
"""Two stages, experts on two nodes, latent attention."""

DENSE: Document = changed(
    SMALL, model={**MODEL, "num_dense_layers": 4, "moe": None, "attention": GQA},
    cluster={"num_gpus": 16}, parallel={"pp": 1, "ep": 1},
)  # fmt: skip
RAMP = {"from": 32, "over_tokens": 1e10, "schedule_below": "1f1b"}

SCENES: Mapping[str, Document] = {
    "": SMALL,
    "dense": DENSE,
    "tp": changed(
        SMALL, parallel={"tp": 2, "ep": 8, "sequence_parallel": True}, head={"cross_entropy": "unfused"}
    ),
    "dense tp": changed(DENSE, parallel={"tp": 2}),
    "fsdp": changed(DENSE, parallel={"zero_stage": 3}),
    "fp8": changed(SMALL, precision={"recipe": "fp8-blockwise"}),
    "pairs": changed(SMALL, parallel={"schedule": "dualpipe"}),
    "interleaved": changed(SMALL, model={**MODEL, "num_layers": 12}, parallel={"schedule": "interleaved_1f1b", "vpp": 2}),
    "window": changed(DENSE, model={"attention": {**GQA, "window": 256}}),
    "chosen": changed(
        SMALL, recompute={"granularity": "selective", "modules": ["swiglu"]}, moe={"capacity_factor": 1.0, "drop": "probs"}
    ),
    "full": changed(DENSE, recompute={"granularity": "full", "method": "block", "num_layers": 2}),
    "ramp": changed(SMALL, phases=[{"name": "pretrain", "tokens": 1e12, "batch_ramp": RAMP}]),
    "sheet": {**SMALL, "prices": {"sheet": "market-2025-03"}},
    "rack": changed(SMALL, cluster={"node": "gb200-nvl72", "num_gpus": 64}, parallel={"ep": 32}, stack=None),
}  # fmt: skip

MECHANISMS: Mapping[str, str] = {"tp_collectives": "tp", "batch_ramp": "ramp", "node_limited_dispatch": ""}

VALUES: Mapping[str, tuple[str, Any]] = {
    "model.hidden_size": ("", 2048),
    "model.num_layers": ("", 6),
    "model.vocab_size": ("", 16_000),
    "model.tied_embeddings": ("", True),
    "model.learned_positions": ("dense", 1024),
    "model.norm": ("dense", "layernorm"),
    "model.num_dense_layers": ("", 2),
    "model.layer_pattern": ("", "dm"),
    "model.mtp.num_modules": ("", 1),
    "model.attention.kind": ("", "gqa"),
    "model.attention.num_heads": ("", 16),
    "model.attention.q_lora_rank": ("", 512),
    "model.attention.kv_lora_rank": ("", 256),
    "model.attention.qk_nope_head_dim": ("", 64),
    "model.attention.qk_rope_head_dim": ("", 32),
    "model.attention.v_head_dim": ("", 64),
    "model.attention.num_kv_heads": ("dense", 8),
    "model.attention.head_dim": ("dense", 128),
    "model.attention.qk_norm": ("dense", True),
    "model.attention.bias": ("dense", True),
    "model.attention.sinks": ("dense", True),
    "model.attention.rope": ("dense", False),
    "model.attention.window": ("dense", 256),
    "model.attention.window_pattern": ("window", "wf"),
    "model.dense_ffn.activation": ("dense", "gelu"),
    "model.dense_ffn.bias": ("dense", True),
    "model.dense_ffn.intermediate_size": ("dense", 4096),
    "model.moe.activation": ("", "gelu"),
    "model.moe.bias": ("", True),
    "model.moe.num_routed_experts": ("", 64),
    "model.moe.num_shared_experts": ("", 1),
    "model.moe.top_k": ("", 6),
    "model.moe.expert_intermediate_size": ("", 1024),
    "model.moe.num_expert_groups": ("", 8),
    "model.moe.max_groups_per_token": ("", 3),
    "model.moe.score": ("", "softmax"),
    "model.moe.router_bias": ("", False),
    "model": ("dense", "llama-3.1-8b"),
    "cluster.node": ("", "h100-x8"),
    "cluster.num_gpus": ("", 64),
    "cluster.gpus_per_domain": ("rack", 32),
    "cluster.fabric": ("", "ib-200g-rail"),
    "stack": ("", "h800-notrace"),
    "kernels.autograd": ("", "eager"),
    "parallel.tp": ("dense", 2),
    "parallel.pp": ("", 1),
    "parallel.vpp": ("interleaved", 3),
    "parallel.ep": ("", 8),
    "parallel.etp": ("tp", 2),
    "parallel.sequence_parallel": ("dense tp", True),
    "parallel.zero_stage": ("", 0),
    "parallel.schedule": ("", "gpipe"),
    "parallel.layers_per_stage": ("", [1, 3]),
    "parallel.overlap.ep": ("pairs", "none"),
    "parallel.overlap.pp": ("", False),
    "parallel.overlap.dp": ("dense", False),
    "parallel.overlap.tp": ("tp", "chunked"),
    "parallel.pipeline_buffers": ("", "per_micro_batch"),
    "parallel.comm_sms": ("", 32),
    "data_parallel.param_gather.overlap": ("dense", True),
    "data_parallel.param_gather.dtype": ("dense", "fp32"),
    "data_parallel.grad_reduce.overlap": ("dense", False),
    "data_parallel.grad_reduce.dtype": ("dense", "bf16"),
    "data_parallel.grad_reduce.every": ("dense", "micro_batch"),
    "data_parallel.bucket_bytes": ("dense", 1_000_000),
    "data_parallel.hsdp_group": ("fsdp", 8),
    "data_parallel.reshard_after_forward": ("fsdp", False),
    "training.seq_len": ("", 512),
    "training.global_batch_size": ("", 128),
    "training.micro_batch_size": ("", 2),
    "training.optimizer": ("", "adamw-bf16-moments"),
    "precision.recipe": ("", "fp8-blockwise"),
    "precision": ("", "fp8-blockwise"),
    "precision.fp8_weight_cache": ("", "per_step"),
    "moe.dispatch_dtype": ("fp8", "bf16"),
    "moe.max_nodes_per_token": ("", 1),
    "moe.balance": ("", "forced"),
    "moe.capacity_factor": ("chosen", 2.0),
    "moe.drop": ("chosen", "position"),
    "moe.pad_to_capacity": ("chosen", True),
    "recompute.granularity": ("dense", "full"),
    "recompute": ("dense", "full"),
    "recompute.modules": ("chosen", ["rmsnorm", "swiglu"]),
    "recompute.method": ("full", "uniform"),
    "recompute.num_layers": ("full", 1),
    "recompute.saved.attn_out": ("", "e5m6"),
    "recompute.saved.swiglu_in": ("fp8", "bf16"),
    "head.vocab_padding": ("", 1024),
    "head.cross_entropy": ("", "unfused"),
    "head.logits": ("dense tp", "gathered"),
    "device.clock": ("", "burst"),
    "device.speed_cv": ("", 0.05),
    "phases": ("", [{"name": "pretrain", "tokens": 2e12}]),
    "prices.usd_per_gpu_hour": ("", 3.0),
    "prices.sheet": ("sheet", "market-2026-05"),
    "assumptions": ("", {"gpu_speed_cv": 0.003}),
    "draws": ("", 2),
    "start_date": ("sheet", "2035-01-01"),
}
"""Key → a scene in which it has meaning, and another value."""

TEXTS = frozenset({"schema_version", "name", "model.name", "model.source", "seed", "currency", "extends"})
"""Names, the seed, and keys of one value."""

SAID = frozenset({"scenario", "scenario_sha256", "defaults_used", "name", "warnings"})
"""What a document repeats of its scenario; warnings are compared without what the key itself brings about the file."""


def leaves(node: Mapping[str, Any], whole: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[str]:
    """Dotted keys of a JSON Schema; a section that may also be one value is a key as well."""
    while "$ref" in node:
        target: Any = whole
        for part in node["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        node = target
    if "properties" in node:
        for key, value in node["properties"].items():
            yield from leaves(value, whole, (*path, key))
        return
    choices = node.get("anyOf") or node.get("oneOf") or node.get("allOf") or ()
    sections = [choice for choice in choices if "$ref" in choice or "properties" in choice]
    for section in sections:
        yield from leaves(section, whole, path)
    if not sections or any(choice not in sections and choice.get("type") != "null" for choice in choices):
        yield ".".join(path)


def keys() -> set[str]:
    schema = scenario_schema()
    return set(leaves(schema, schema))


def with_value(document: Document, key: str, value: Any) -> Document:
    new = deepcopy(document)
    *sections, last = key.split(".")
    section = new
    for name in sections:
        section = section.setdefault(name, {})
    section[last] = value
    if key == "model.attention.kind":
        new["model"]["attention"] = GQA
    return new


def told(document: Document) -> tuple[dict[str, Any], set[str]]:
    scenario = load_scenario(document)
    result = simulate_run(scenario).model_dump(mode="json")
    return {key: value for key, value in result.items() if key not in SAID}, set(scenario.warnings)


@cache
def of_scene(name: str) -> tuple[dict[str, Any], set[str]]:
    return told(SCENES[name])


def test_every_key_has_a_scene() -> None:
    mechanisms = {key for key in keys() if key.startswith("mechanisms.")}
    assert keys() - TEXTS - mechanisms == set(VALUES)


@pytest.mark.parametrize("key", sorted(VALUES))
def test_a_key_acts_or_a_warning_says_why_not(key: str) -> None:
    scene, value = VALUES[key]
    assert told(with_value(SCENES[scene], key, value)) != of_scene(scene)
