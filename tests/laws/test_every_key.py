"""Law: nothing is ignored. Every key of a scenario, set to another legal value where it has meaning, changes what is
answered or says in a warning why it does not.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, get_args

import pytest

from hwprofiles.yaml_file import parse_yaml
from simulator import load_scenario, simulate_run
from simulator.results.document import to_document
from simulator.scenario.phase import SECTIONS
from simulator.scenario.scenario import Scenario
from simulator.scenario.section import Section
from simulator.schedule import SCHEDULES
from tests.laws.runs import unexplained

NO_FIGURE: Mapping[str, str] = {
    "schema_version": "has one value",
    "name": "is text",
    "model.name": "is text",
    "model.source": "is text",
    "model.attention.kind": "comes with all keys of its section",
    "phases.name": "is text",
    "currency": "has one value",
    "host.costs": "needs a stack with host costs of its own: tests/step/test_own_host.py",
    "cluster.fabric": "names facts, each with laws of its own",
    "assumptions.value": "is any stated assumption: test_assumptions.py",
    "assumptions.low": "is any stated assumption: test_assumptions.py",
    "assumptions.high": "is any stated assumption: test_assumptions.py",
    **{f"phases.{section}": "is a section of the scenario's: tests/scenario/test_phases.py" for section in SECTIONS},
}
"""Keys that are texts or are tried elsewhere."""

PHASE: Mapping[str, Any] = {"name": "p", "tokens": 1e9}
TUNED: Mapping[str, Any] = {"name": "p", "kind": "sft", "samples": 1e4}
REINFORCED: Mapping[str, Any] = {"name": "p", "kind": "rl", "steps": 100}
EVALUATED: Mapping[str, Any] = {**PHASE, "evaluation": {"tokens": 1e6, "every_steps": 100}}
RAMPED: Mapping[str, Any] = {**PHASE, "batch_ramp": {"from": 32, "over_tokens": 1e8, "schedule_below": "1f1b"}}
DEEPSEEK = (
    "deepseek-v3", "cluster.num_gpus=32", "parallel.pp=4", "parallel.ep=8", "model.num_layers=8",
    "model.moe.num_routed_experts=64", "training.global_batch_size=64", "training.seq_len=1024",
    "moe.max_nodes_per_token=null",
)  # fmt: skip
DENSE = (
    "llama-3.1-70b", "cluster.num_gpus=16", "parallel.pp=2", "model.num_layers=4", "model.num_dense_layers=4",
    "training.global_batch_size=64", "training.seq_len=1024",
)  # fmt: skip
CONTEXTS: Mapping[str, tuple[str, ...]] = {
    "deepseek": DEEPSEEK,
    "two_nodes": (*DEEPSEEK, "parallel.pp=2", "parallel.ep=16", "model.num_layers=6"),
    "issued": (*DENSE, "host.launch_s=0.001"),
    "issued_experts": (*DEEPSEEK, "host.launch_s=0.001"),
    "few_ranks": (*DEEPSEEK, "parallel.ep=4"),
    "ramped": (*DEEPSEEK, f"phases={json.dumps([RAMPED])}"),
    "tuned": (*DEEPSEEK, f"phases={json.dumps([TUNED])}"),
    "reinforced": (*DEEPSEEK, f"phases={json.dumps([REINFORCED])}"),
    "evaluated": (*DEEPSEEK, f"phases={json.dumps([EVALUATED])}"),
    "capped": (*DEEPSEEK, "moe.capacity_factor=1.0", "moe.drop=probs"),
    "clamped": (*DEEPSEEK, "model.moe.clamp=7.0"),
    "unfused_experts": (*DEEPSEEK, "moe.expert_fusion=false"),
    "padded": (*DEEPSEEK, "kernels.casts=transformer-engine-2025"),
    "dense": DENSE,
    "plain": (*DENSE, "recompute.granularity=none", "recompute.modules=[]"),
    "modular": (*DENSE, "kernels.autograd=transformer_engine"),
    "tensor": (*DENSE, "parallel.tp=2"),
    "sequence": (*DENSE, "parallel.tp=2", "parallel.sequence_parallel=true"),
    "shared": (*DENSE, "parallel.cp=2"),
    "sharded": (*DENSE, "parallel.zero_stage=3"),
    "grouped": (*DENSE, "parallel.zero_stage=2", "data_parallel.hsdp_group=4"),
    "packed": (*DENSE, "training.packing={mean_tokens: 256, cv: 1.0}"),
    "packed_and_shared": (
        *DENSE, "parallel.cp=2", "parallel.cp_comm=all_gather", "training.packing={mean_tokens: 256, cv: 1.0}",
    ),
    "windowed": (*DENSE, "model.attention.window=256"),
    "virtual": (
        *DENSE, "model.num_layers=8", "model.num_dense_layers=8", "parallel.vpp=2", "parallel.schedule=interleaved_1f1b",
    ),
    "folded": (*DENSE, "parallel.schedule=dualpipe_v"),
    "tensorwise": (*DENSE, "precision.recipe=fp8-tensor"),
    "busy": (*DENSE, "parallel.pp=1", "parallel.tp=1", "training.seq_len=8192", "training.global_batch_size=256"),
    "kept": (*DENSE, "recompute={granularity: none, modules: []}"),
    "full": (*DENSE, "recompute={granularity: full, modules: [], num_layers: 1}"),
    "measured": (*DENSE, "stack=h100-measured", "precision.recipe=fp8-blockwise"),
    "hosted": (*DENSE, "offload={optimizer: 0.5, activations: 1}"),
    "orthogonal": (*DENSE, "parallel.tp=2", "training.optimizer=muon"),
    "rack": (
        *DENSE, "cluster.node=gb200-nvl72", "cluster.num_gpus=72", "training.global_batch_size=72",
        "phases=[{name: p, tokens: 1e9}]",
    ),
    "sheet": (*DENSE, "prices={sheet: market-2025-03}", "start_date=2025-04-01"),
}  # fmt: skip
"""Small scenarios: a preset and its overrides."""

CHANGES: Mapping[str, tuple[str, str]] = {
    "model.hidden_size": ("deepseek", "4096"),
    "model.num_layers": ("deepseek", "9"),
    "model.vocab_size": ("deepseek", "64000"),
    "model.tied_embeddings": ("deepseek", "true"),
    "model.attention.num_heads": ("deepseek", "64"),
    "model.attention.q_lora_rank": ("deepseek", "512"),
    "model.attention.kv_lora_rank": ("deepseek", "256"),
    "model.attention.qk_nope_head_dim": ("deepseek", "64"),
    "model.attention.qk_rope_head_dim": ("deepseek", "32"),
    "model.attention.v_head_dim": ("deepseek", "64"),
    "model.attention.num_kv_heads": ("dense", "16"),
    "model.attention.head_dim": ("dense", "64"),
    "model.attention.qk_norm": ("dense", "true"),
    "model.dense_ffn.intermediate_size": ("dense", "14336"),
    "model.num_dense_layers": ("deepseek", "2"),
    "model.moe.num_routed_experts": ("deepseek", "128"),
    "model.moe.num_shared_experts": ("deepseek", "2"),
    "model.moe.top_k": ("deepseek", "4"),
    "model.moe.expert_intermediate_size": ("deepseek", "1024"),
    "model.moe.num_expert_groups": ("two_nodes", "4"),
    "model.moe.max_groups_per_token": ("two_nodes", "2"),
    "model.moe.score": ("two_nodes", "softmax"),
    "model.moe.router_bias": ("two_nodes", "false"),
    "model.mtp.num_modules": ("deepseek", "0"),
    "cluster.node": ("dense", "h200-x8"),
    "cluster.num_gpus": ("dense", "32"),
    "stack": ("deepseek", "h800-notrace"),
    "framework": ("dense", "llm-foundry@2023"),
    "parallel.tp": ("dense", "2"),
    "parallel.cp": ("dense", "2"),
    "parallel.cp_comm": ("shared", "all_gather"),
    "parallel.cp_kv": ("dense", "latent"),
    "parallel.pp": ("dense", "4"),
    "parallel.ep": ("deepseek", "4"),
    "parallel.etp": ("few_ranks", "2"),
    "parallel.sequence_parallel": ("tensor", "true"),
    "parallel.schedule": ("dense", "gpipe"),
    "parallel.layers_per_stage": ("dense", "[1, 3]"),
    "parallel.overlap.ep": ("deepseek", "none"),
    "parallel.overlap.dp": ("dense", "false"),
    "parallel.comm_sms": ("deepseek", "32"),
    "data_parallel.grad_reduce.overlap": ("dense", "false"),
    "data_parallel.grad_reduce.dtype": ("dense", "bf16"),
    "training.seq_len": ("dense", "2048"),
    "training.global_batch_size": ("dense", "128"),
    "training.micro_batch_size": ("dense", "2"),
    "training.optimizer": ("dense", "adamw-bf16-moments"),
    "training.packing": ("dense", "{mean_tokens: 256, cv: 1.0}"),
    "training.packing.mean_tokens": ("packed", "512"),
    "training.packing.cv": ("packed", "2.0"),
    "training.packing.lengths": ("dense", "[512, 512]"),
    "training.packing.cut": ("packed_and_shared", "sequence"),
    "training.padding_fraction": ("dense", "0.1"),
    "training.muon.shards": ("orthogonal", "whole"),
    "training.muon.tensor_parallel": ("orthogonal", "blockwise"),
    "training.muon.steps": ("orthogonal", "3"),
    "precision.recipe": ("deepseek", "bf16"),
    "precision.fp8_weight_cache": ("dense", "per_step"),
    "precision.bf16_first_layers": ("tensorwise", "1"),
    "precision.bf16_last_layers": ("tensorwise", "2"),
    "precision.scaling": ("tensorwise", "delayed"),
    "precision.primary_weights": ("tensorwise", "quantised"),
    "kernels.casts": ("deepseek", "transformer-engine-2025"),
    "moe.dispatcher": ("deepseek", "alltoall"),
    "moe.permute_fusion": ("deepseek", "false"),
    "moe.dispatch_dtype": ("deepseek", "bf16"),
    "moe.row_padding": ("deepseek", "256"),
    "moe.combine_dtype": ("deepseek", "fp8"),
    "moe.max_nodes_per_token": ("two_nodes", "1"),
    "moe.balance": ("deepseek", "forced"),
    "moe.capacity_factor": ("capped", "2.0"),
    "moe.drop": ("capped", "position"),
    "moe.pad_to_capacity": ("capped", "true"),
    "moe.router_fusion": ("deepseek", "true"),
    "moe.expert_fusion": ("clamped", "false"),
    "moe.pad_copies": ("padded", "true"),
    "moe.balance.load_imbalance": ("deepseek", "1.5"),
    "recompute.granularity": ("kept", "full"),
    "recompute.modules": ("dense", "[rmsnorm]"),
    "recompute.saved.attn_out": ("deepseek", "bf16"),
    "recompute.saved.swiglu_in": ("deepseek", "bf16"),
    "head.vocab_padding": ("dense", "3001"),
    "device.clock": ("busy", "burst"),
    "device.power_cap_w": ("dense", "400"),
    "host.dispatch": ("dense", "custom"),
    "host.launch_s": ("dense", "0.001"),
    "host.cuda_graph": ("issued", "full_iteration"),
    "host.pipeline_sync": ("issued", "always"),
    "moe.host_sync": ("issued_experts", "none"),
    "device.speed_cv": ("dense", "0.05"),
    "phases.tokens": ("deepseek", "2e9"),
    "phases.steps": ("deepseek", "20"),
    "phases.batch_ramp.schedule_below": ("ramped", "gpipe"),
    "phases.kind": ("deepseek", "evaluation"),
    "phases.samples": ("tuned", "2e4"),
    "phases.epochs": ("tuned", "2"),
    "phases.sft.packing": ("tuned", "none"),
    "phases.sft.sample_cv": ("tuned", "0.5"),
    "phases.sft.sample_tokens": ("tuned", "700"),
    "phases.rl.algorithm": ("reinforced", "ppo"),
    "phases.rl.inner_epochs": ("reinforced", "2"),
    "phases.rl.max_response_tokens": ("reinforced", "2000"),
    "phases.rl.model_reward_share": ("reinforced", "1.0"),
    "phases.rl.prompt_tokens": ("reinforced", "50"),
    "phases.rl.prompts_per_step": ("reinforced", "64"),
    "phases.rl.reference": ("reinforced", "false"),
    "phases.rl.response_cv": ("reinforced", "0.5"),
    "phases.rl.response_tokens": ("reinforced", "600"),
    "phases.rl.rollout.gpus_per_engine": ("reinforced", "16"),
    "phases.rl.rollout.kv_dtype": ("reinforced", "fp8"),
    "phases.rl.rollout.max_batch_per_gpu": ("reinforced", "2"),
    "phases.rl.rollout.mtp": ("reinforced", "false"),
    "phases.rl.samples_per_prompt": ("reinforced", "8"),
    "phases.rl.steps_per_rollout": ("reinforced", "4"),
    "phases.evaluation.tokens": ("evaluated", "2e6"),
    "phases.evaluation.every_steps": ("evaluated", "50"),
    "prices.sheet": ("sheet", "market-2026-05"),
    "prices.provider": ("sheet", "runpod"),
    "prices.region": ("sheet", "us-central1"),
    "prices.commitment": ("sheet", "3-year"),
    "start_date": ("sheet", "2027-01-01"),
    "phases.batch_ramp.from": ("ramped", "64"),
    "phases.batch_ramp.over_tokens": ("ramped", "2e8"),
    "prices.usd_per_gpu_hour": ("dense", "3"),
    "cluster.gpus_per_domain": ("rack", "36"),
    "data_parallel.bucket_bytes": ("dense", "10000000000"),
    "data_parallel.grad_reduce.every": ("sharded", "step"),
    "data_parallel.hsdp_group": ("sharded", "4"),
    "data_parallel.grad_reduce.over_groups": ("grouped", "step"),
    "data_parallel.param_gather.dtype": ("sharded", "fp32"),
    "data_parallel.param_gather.overlap": ("dense", "true"),
    "data_parallel.reshard_after_forward": ("sharded", "false"),
    "data_parallel.sharded_copies": ("sharded", "flat"),
    "head.chunk_tokens": ("dense", "256"),
    "head.cross_entropy": ("dense", "unfused"),
    "head.logits": ("tensor", "gathered"),
    "kernels.activation": ("dense", "eager"),
    "kernels.attention": ("dense", "fa2"),
    "kernels.autograd": ("dense", "eager"),
    "kernels.grouped_heads": ("dense", "repeated"),
    "kernels.modules": ("plain", "transformers"),
    "kernels.norm": ("dense", "eager"),
    "kernels.projections": ("dense", "separate"),
    "parallel.tp_tensors": ("sequence", "batch_first"),
    "kernels.grouped_gemm": ("deepseek", "loop"),
    "kernels.gemm": ("measured", "moesim"),
    "model.attention.bias": ("dense", "true"),
    "model.attention.rope": ("dense", "false"),
    "model.attention.sinks": ("dense", "true"),
    "model.attention.rope_scale": ("modular", "1.3"),
    "model.attention.window": ("windowed", "512"),
    "model.attention.window_pattern": ("windowed", "w f"),
    "model.dense_ffn.activation": ("dense", "gelu"),
    "model.dense_ffn.bias": ("dense", "true"),
    "model.layer_pattern": ("deepseek", "d m"),
    "model.learned_positions": ("dense", "4096"),
    "model.moe.activation": ("deepseek", "gelu"),
    "model.moe.bias": ("deepseek", "true"),
    "model.moe.clamp": ("unfused_experts", "7.0"),
    "model.norm": ("dense", "layernorm"),
    "model.parallel_block": ("dense", "true"),
    "parallel.overlap.delay_wgrad": ("deepseek", "false"),
    "parallel.overlap.pp": ("dense", "false"),
    "parallel.overlap.tp": ("sequence", "chunked"),
    "parallel.pipeline_buffers": ("dense", "per_micro_batch"),
    "parallel.split_backward": ("folded", "false"),
    "training.grad_norm_sync": ("dense", "post_validation"),
    "parallel.vpp": ("virtual", "4"),
    "parallel.zero_stage": ("dense", "2"),
    "recompute.method": ("full", "block"),
    "recompute.num_layers": ("full", "2"),
    "offload.optimizer": ("dense", "0.5"),
    "offload.optimizer_overlap": ("hosted", "true"),
    "offload.activations": ("kept", "0.5"),
    "offload.activation_layers": ("hosted", "1"),
    "draws": ("deepseek", "3"),
    "seed": ("deepseek", "1"),
}
"""Key → context in which it has meaning, and another legal value there."""

PHASES: Mapping[str, Mapping[str, Any]] = {
    "ramped": RAMPED, "tuned": TUNED, "reinforced": REINFORCED, "evaluated": EVALUATED,
}  # fmt: skip
"""Context → its phase; PHASE of all others."""


def keys(section: type[Section], prefix: str = "") -> Iterator[str]:
    """Dotted names of all keys; those of a phase without its name."""
    for name, field in section.model_fields.items():
        key = prefix + (field.alias or name)
        inner = list(_sections(field.annotation))
        if not inner or key in ("moe.balance", "training.packing"):
            yield key
        for each in inner:
            yield from keys(each, f"{key}.")


def _sections(annotation: Any) -> Iterator[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for part in get_args(annotation):
        yield from _sections(part)


@cache
def answer(*given: str) -> dict[str, Any]:
    """The result document without what only repeats the scenario."""
    preset, *overrides = given
    options = ["draws=2", f"phases={json.dumps([PHASE])}", *overrides]
    document = to_document(simulate_run(load_scenario(preset, options), simulate=unexplained))
    for repeated in ("scenario", "scenario_sha256", "defaults_used", "seed", "dropped"):
        document.pop(repeated, None)
    return document


def changed(key: str, value: str) -> str:
    """The option that sets a key; of a phase, the one that its context has. Steps stand instead of tokens."""
    if key.startswith("phases."):
        phase = _with(PHASES.get(CHANGES[key][0], PHASE), key.split(".")[1:], parse_yaml(value, "value").data)
        if "steps" in phase and "tokens" in phase:
            del phase["tokens"]
        return f"phases={json.dumps([phase])}"
    if key == "moe.balance.load_imbalance":
        return f"moe.balance={{load_imbalance: {value}}}"
    return f"{key}={value}"


def _with(phase: Mapping[str, Any], path: Sequence[str], value: Any) -> dict[str, Any]:
    """A mapping with another value at a path."""
    first, *rest = path
    found: dict[str, Any] = {**phase, first: _with(phase.get(first, {}), rest, value) if rest else value}
    return found


def test_every_key_is_tried() -> None:
    found = {*keys(Scenario)}
    switches = {key for key in found if key.startswith("mechanisms.")}  # test_mechanisms.py
    assert found - switches == {*CHANGES, *NO_FIGURE}


@pytest.mark.parametrize("key", sorted(CHANGES))
def test_another_value_changes_the_answer(key: str) -> None:
    context, value = CHANGES[key]
    given = CONTEXTS[context]
    assert answer(*given, changed(key, value)) != answer(*given)


@pytest.mark.parametrize("schedule", SCHEDULES.names())
@pytest.mark.parametrize("key", ["parallel.overlap.dp", "data_parallel.grad_reduce.overlap"])
def test_overlap_of_reductions_acts_in_every_schedule(key: str, schedule: str) -> None:
    """Beside the backward they are never longer than behind it, and shorter where there is one."""
    virtual = ("parallel.vpp=2",) if SCHEDULES[schedule].own_chunks is None else ()
    context = (*DEEPSEEK, "recompute={granularity: none, modules: []}") if SCHEDULES[schedule].pairs_by_layer else DENSE
    given = (*context, "device.speed_cv=0", f"parallel.schedule={schedule}", *virtual)
    on, off = (answer(*given, f"{key}={value}")["step"]["step_s"] for value in ("true", "false"))
    # The last weight gradient of every rank ends the pipeline: what is reduced behind it has nothing beside it there.
    assert on <= off if SCHEDULES[schedule].split == "always" else on < off


def test_the_method_tells_of_every_schedule_and_of_what_is_shared_or_moved() -> None:
    """docs/method.md is one text that many change: a paragraph that goes by mistake is missed here."""
    text = (Path(__file__).parents[2] / "docs" / "method.md").read_text(encoding="utf-8")
    keys = ("cp_comm", "training.packing", "training.grad_norm_sync", "training.optimizer: muon", "hsdp_group")
    offload = (f"offload.{key}" for key in ("activations", "optimizer"))
    switches = ("link_sharing", "offload_time", "orthogonalisation", "document_spread", "host_stream")
    for name in (*SCHEDULES, *keys, *offload, *(f"mechanisms.{each}" for each in switches)):
        assert f"`{name}" in text or f"{name}`" in text, name
