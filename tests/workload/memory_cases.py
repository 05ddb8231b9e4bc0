"""A DeepSeek-V3, a small dense model, recipes and assumptions for the tests of memory."""

from __future__ import annotations

from typing import Any

from simulator.scenario.model import DenseFfn, GqaAttention, ModelSpec
from simulator.scenario.model_catalog import load_model
from simulator.scenario.scenario import Scenario
from simulator.workload.memory import MemoryAssumptions
from simulator.workload.saved import ActivationRecipe

V3 = load_model("deepseek-v3")
DENSE = ModelSpec(
    name="mha", hidden_size=512, num_layers=2, vocab_size=1000, num_dense_layers=2,
    attention=GqaAttention(kind="gqa", num_heads=4, num_kv_heads=4, head_dim=128),
    dense_ffn=DenseFfn(intermediate_size=1536),
)  # fmt: skip
FP8 = ActivationRecipe(
    tokens=4096, ep=64, act_dtype="fp8-block", dispatch_dtype="fp8-block", attn_out_dtype="e5m6",
    swiglu_in_dtype="fp8-block", recompute=frozenset({"rmsnorm", "mla_up_proj", "swiglu"}), row_padding=1,
)  # fmt: skip
MODULES = ("rmsnorm", "mla_up_proj", "swiglu", "mlp", "attention", "layer", "moe", "shared_expert", "experts")
ASSUMED = MemoryAssumptions(
    bf16_weight_copy_frac=1.0, expert_rows_frac=1.0, expert_rows_peak_frac=1.0, dispatch_nvl_tokens=288,
    dispatch_rdma_tokens=128, dispatch_slot_metadata_bytes=2064, dispatch_granularity_bytes=0,
    communicator_bytes=6e8, context_bytes=6e8, fragmentation_frac=0.25, real_over_estimate=1.0,
    graph_node_bytes=1e4, graph_pool_frac=0.1, graph_rows_frac=1.2, graph_budget_frac=1.5,
)  # fmt: skip


def scenario(**sections: Any) -> Scenario:
    """DeepSeek-V3 on 2,048 GPUs, with other sections in place of the default ones."""
    base: dict[str, Any] = {
        "schema_version": 1, "model": V3, "stack": "any",
        "cluster": {"node": "any", "num_gpus": 2048, "fabric": "any"},
        "parallel": {"pp": 16, "ep": 64, "schedule": "dualpipe"}, "moe": {"dispatch_dtype": "fp8"},
        "precision": {"recipe": "fp8-blockwise", "fp8_weight_cache": "per_step"},
    }  # fmt: skip
    return Scenario.model_validate({**base, **sections})
