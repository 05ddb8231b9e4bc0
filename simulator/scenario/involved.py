"""Which keys a rule compares: where it is broken, the position named is that of the key given last."""

from __future__ import annotations

from collections.abc import Mapping

_MODEL = ("model", "model.num_layers")
_EXPERTS = ("model", "model.moe.num_routed_experts", "model.moe.top_k")
_OFFERS = ("prices.sheet", "cluster.node")
_MESH = ("cluster.num_gpus", "cluster.node", "parallel.tp", "parallel.cp", "parallel.pp")
_BATCH = ("training.global_batch_size", "training.micro_batch_size", *_MESH)
_INVOLVED: Mapping[str, tuple[str, ...]] = {
    "model.num_dense_layers": ("model.num_layers", "model.moe"),
    "model.layer_pattern": ("model.num_dense_layers", "model.num_layers", "model.moe"),
    "model.moe": ("model.num_dense_layers", "model.num_layers", "model.layer_pattern"),
    "model.dense_ffn": ("model.num_dense_layers", "model.layer_pattern"),
    "model.attention.num_kv_heads": ("model.attention.num_heads",),
    "model.attention.window": ("training.seq_len", "model"),
    "model.learned_positions": ("training.seq_len", "model"),
    "model.parallel_block": ("model.moe", "model.num_dense_layers", "model"),
    "model.attention.window_pattern": ("model.attention.window",),
    "model.moe.top_k": (
        "model.moe.num_routed_experts", "model.moe.num_expert_groups", "model.moe.max_groups_per_token",
    ),
    "model.moe.clamp": ("model.moe.activation",),
    "model.moe.num_expert_groups": ("model.moe.num_routed_experts",),
    "model.moe.max_groups_per_token": ("model.moe.num_expert_groups",),
    "model.hidden_size": ("precision.recipe", "model"),
    "model.dense_ffn.intermediate_size": ("precision.recipe", "model"),
    "model.moe.expert_intermediate_size": ("precision.recipe", "model"),
    "cluster.num_gpus": (*_MESH, "cluster.fabric"),
    "parallel.pp": (*_MODEL, "parallel.schedule", "parallel.vpp"),
    "parallel.vpp": (*_MODEL, "parallel.schedule", "parallel.pp"),
    "parallel.ep": (*_EXPERTS, *_MESH, "parallel.etp"),
    "parallel.tp": (
        "model", "model.attention.num_heads", "model.attention.num_kv_heads", "model.dense_ffn.intermediate_size",
        "model.moe.expert_intermediate_size", "model.moe.num_shared_experts", "precision.recipe",
    ),
    "parallel.overlap.tp": ("parallel.tp", "parallel.sequence_parallel"),
    "parallel.etp": ("model", "model.moe", "model.moe.expert_intermediate_size", "precision.recipe"),
    "parallel.sequence_parallel": ("parallel.tp", "model", "training.seq_len"),
    "training.packing.lengths": ("training.packing", "training.seq_len", "training.padding_fraction"),
    "training.packing.mean_tokens": ("training.packing", "training.seq_len", "training.padding_fraction"),
    "training.packing.cut": ("training.packing", "parallel.cp_comm", "parallel.cp"),
    "training.seq_len": ("parallel.tp", "parallel.cp", "parallel.sequence_parallel"),
    "parallel.cp": ("parallel.tp", "parallel.cp_comm", "model", "model.attention.num_heads", "model.attention.num_kv_heads"),
    "parallel.cp_comm": ("parallel.cp", "model", "model.attention.window", "model.attention.sinks"),
    "kernels.attention": ("parallel.cp", "training.packing"),
    "parallel.layers_per_stage": (
        *_MODEL, "model.num_dense_layers", "model.layer_pattern", "model.mtp.num_modules", "parallel.pp", "parallel.vpp",
    ),
    "training.global_batch_size": (*_BATCH, "parallel.schedule", "model", "model.num_layers"),
    "batch_ramp.from": (*_BATCH, "parallel.schedule"),
    "moe.max_nodes_per_token": (*_EXPERTS, "parallel.ep", "parallel.etp", "cluster.node", "cluster.gpus_per_domain"),
    "moe.balance": (*_EXPERTS, "parallel.ep"),
    "moe.capacity_factor": ("moe.drop", "moe.pad_to_capacity"),
    "moe.drop": ("moe.capacity_factor",),
    "host.cuda_graph": (
        "moe.host_sync", "moe.pad_to_capacity", "moe.capacity_factor", "recompute.granularity", "recompute.modules", "model",
    ),
    "moe.pad_to_capacity": ("moe.capacity_factor", "moe.drop"),
    "moe.dispatcher": ("cluster.node", "parallel.ep", "model", "model.moe"),
    "moe.dispatch_dtype": ("precision.recipe", "moe.dispatcher"),
    "moe.combine_dtype": ("precision.recipe", "moe.dispatcher"),
    "recompute.saved.swiglu_in": ("precision.recipe",),
    "precision.fp8_weight_cache": ("precision.recipe",),
    "precision.scaling": ("precision.recipe",),
    "precision.bf16_first_layers": ("precision.recipe", "precision.bf16_last_layers", "model"),
    "precision.bf16_last_layers": ("precision.recipe",),
    "precision.primary_weights": ("precision.recipe",),
    "kernels.casts": ("precision.recipe",),
    "precision.recipe": ("cluster.node",),
    "recompute.modules": ("recompute.granularity", "model"),
    "recompute.num_layers": ("recompute.method", "recompute.granularity"),
    "recompute.method": ("recompute.granularity",),
    "parallel.zero_stage": (
        "precision.recipe", "parallel.schedule", "recompute.granularity", "recompute.method", "recompute.num_layers",
    ),
    "data_parallel.hsdp_group": ("parallel.schedule", *_MESH, "parallel.ep", "parallel.etp"),
    "data_parallel.grad_reduce.every": ("parallel.schedule",),
    "data_parallel.grad_reduce.over_groups": ("data_parallel.grad_reduce.every", "data_parallel.hsdp_group"),
    "offload.optimizer": ("cluster.node", "training.optimizer"),
    "training.optimizer": ("parallel.zero_stage",),
    "training.muon.shards": ("parallel.zero_stage", "data_parallel.hsdp_group", "training.optimizer"),
    "offload.activations": ("cluster.node",),
    "parallel.overlap.ep": ("parallel.schedule",),
    "parallel.split_backward": ("parallel.schedule",),
    "parallel.overlap.pp": ("parallel.schedule", "parallel.pp"),
    "parallel.pipeline_buffers": ("parallel.pp",),
    "head.logits": ("parallel.tp",),
    "head.chunk_tokens": ("training.seq_len", "training.micro_batch_size", "parallel.cp"),
    "parallel.comm_sms": ("cluster.node", "parallel.ep"),
    "cluster.fabric": ("cluster.node",),
    "prices": ("prices.usd_per_gpu_hour", "prices.sheet"),
    "prices.sheet": ("cluster.node",),
    "prices.provider": _OFFERS,
    "prices.region": _OFFERS,
    "prices.commitment": _OFFERS,
    "prices.usd_per_gpu_hour": ("cluster.node",),
    "stack": ("cluster.node",),
}  # fmt: skip
"""Field → other keys whose change may have broken its rule: the position named is that of the key given last."""


def involved(field: str) -> tuple[str, ...]:
    """The field and the keys that its rule compares it with."""
    if field.endswith(".batch_ramp.from"):
        return (field, f"{field.removesuffix('from')}schedule_below", *_INVOLVED["batch_ramp.from"])
    if field.startswith("phases."):
        return field, f"{field}.tokens", f"{field}.steps"
    return (field, *_INVOLVED.get(field, ()))
