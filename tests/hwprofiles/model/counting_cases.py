"""Small models, one for each kind of layer, and what the simulator counts of each: products, attention pairs, kept bytes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from simulator.scenario.layout import stage_layout
from simulator.scenario.model import ModelSpec
from simulator.workload.casts.casts import Casts
from simulator.workload.casts.separate import SeparateCasts
from simulator.workload.op import Op
from simulator.workload.pairs import query_key_pairs
from simulator.workload.recipe import Recipe
from simulator.workload.recompute import Checkpoint
from simulator.workload.saved import ActivationRecipe
from simulator.workload.stages import build_workload, stage_blocks

BATCH, SEQ = 2, 64
HIDDEN, VOCAB, FFN, EXPERT = 256, 512, 640, 96

MLA = {
    "kind": "mla", "num_heads": 4, "q_lora_rank": 112, "kv_lora_rank": 80, "qk_nope_head_dim": 32, "qk_rope_head_dim": 16,
    "v_head_dim": 40,
}  # fmt: skip
DIRECT = MLA | {"q_lora_rank": 0}
GQA = {"kind": "gqa", "num_heads": 8, "num_kv_heads": 2, "head_dim": 32}
MHA = {"kind": "gqa", "num_heads": 6, "num_kv_heads": 6, "head_dim": 24}
MOE = {"num_routed_experts": 8, "top_k": 2, "expert_intermediate_size": EXPERT}
V3 = MOE | {
    "num_shared_experts": 1, "num_expert_groups": 4, "max_groups_per_token": 2, "score": "sigmoid", "router_bias": True,
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A model file's values beside the common ones, and the modules that are computed again."""

    name: str
    attention: dict[str, Any]
    more: dict[str, Any] = field(default_factory=dict)
    recompute: frozenset[str] = frozenset()
    layers: str = "d"

    @property
    def values(self) -> dict[str, Any]:
        """As a model file of the catalogue has them."""
        return {
            "name": self.name, "hidden_size": HIDDEN, "num_layers": len(self.layers), "vocab_size": VOCAB,
            "attention": self.attention, "num_dense_layers": self.layers.count("d"),
            "dense_ffn": {"intermediate_size": FFN}, "moe": V3,
        } | self.more  # fmt: skip


def _again(name: str, attention: dict[str, Any], *modules: str, layers: str = "d", **more: Any) -> Case:
    return Case(f"{name}, {' + '.join(modules)} again", attention, more, frozenset(modules), layers)


CASES = (
    Case("MLA", MLA),
    Case("MLA without a query rank", DIRECT),
    Case("GQA", GQA),
    Case("MHA", MHA),
    Case("GQA, norms of the heads", GQA | {"qk_norm": True}),
    Case("GQA, biases", GQA | {"bias": True}, {"dense_ffn": {"intermediate_size": FFN, "bias": True}}),
    Case("GQA, windows", GQA | {"window": 16, "window_pattern": "w f"}, layers="dd"),
    Case("GQA, sinks", GQA | {"sinks": True}),
    Case("GPT", MHA | {"rope": False}, {
        "dense_ffn": {"intermediate_size": FFN, "activation": "gelu"}, "norm": "layernorm", "learned_positions": SEQ,
        "tied_embeddings": True,
    }),
    Case("relu2", GQA, {"dense_ffn": {"intermediate_size": FFN, "activation": "relu2"}}),
    Case("geglu", GQA, {"dense_ffn": {"intermediate_size": FFN, "activation": "geglu"}}),
    Case("DeepSeek-V3", MLA, {"mtp": {"num_modules": 1}}, layers="dm"),
    Case("MoE, softmax, nothing shared", GQA, {"moe": MOE}, layers="m"),
    Case("MoE, two shared", MLA, {"moe": MOE | {"num_shared_experts": 2}}, layers="m"),
    Case("MoE, relu2, biases", GQA, {"moe": MOE | {"activation": "relu2", "bias": True}}, layers="m"),
    Case("two MTP modules", GQA, {"mtp": {"num_modules": 2}}),
    Case("layers in turn", MHA, {"num_dense_layers": 0, "layer_pattern": "d m"}, layers="dm"),
    _again("MLA", MLA, "rmsnorm"),
    _again("MLA", MLA, "mla_up_proj"),
    _again("MLA", MLA, "rmsnorm", "mla_up_proj", "swiglu"),
    _again("MLA", DIRECT, "mla_up_proj", "attention"),
    _again("GQA", GQA, "attention"),
    _again("GQA", GQA, "mlp"),
    _again("GQA, norms of the heads", GQA | {"qk_norm": True}, "rmsnorm", "swiglu"),
    _again("MoE", MLA, "swiglu", layers="m"),
    _again("MoE", MLA, "rmsnorm", layers="m"),
    _again("MoE", GQA, "moe", layers="m"),
    _again("MoE", GQA, "shared_expert", layers="m"),
    _again("MoE", MLA, "rmsnorm", "mla_up_proj", "swiglu", "shared_expert", layers="m"),
    _again("MoE, nothing shared", GQA, "rmsnorm", layers="m", moe=MOE),
    _again("DeepSeek-V3", MLA, "rmsnorm", "mla_up_proj", "swiglu", layers="dm", mtp={"num_modules": 1}),
    _again("DeepSeek-V3", MLA, "layer", layers="dm", mtp={"num_modules": 1}),
    _again("GPT", MHA | {"rope": False}, "layer", layers="dd", norm="layernorm"),
    _again("all", MLA, "rmsnorm", "mla_up_proj", "attention", "mlp", "moe", layers="dm"),
)  # fmt: skip

TILED = MLA | {"q_lora_rank": 128, "kv_lora_rank": 128, "v_head_dim": 32}
"""Operands of whole tiles of 128: no scale stands for padding."""
TILED_V3 = V3 | {"expert_intermediate_size": 128}
FP8_CASES = tuple(
    Case(f"FP8, {name}, {' + '.join(modules) or 'nothing'} again", attention, {
        "moe": TILED_V3, "mtp": {"num_modules": int(len(modules) == 3)},
    }, frozenset(modules), "dm")
    for name, attention, modules in (
        ("MLA", TILED, ()), ("MLA", TILED, ("rmsnorm",)), ("MLA", TILED, ("swiglu",)), ("GQA", GQA, ("rmsnorm", "attention")),
        ("MLA", TILED, ("rmsnorm", "mla_up_proj", "swiglu")), ("MLA", TILED, ("layer",)), ("GQA", GQA, ()),
    )
)  # fmt: skip


@dataclass(frozen=True)
class Counted:
    """rows: by pass, (outputs, inputs) of a linear layer → rows that pass it. core: by pass, FLOP of attention, all pairs."""

    rows: dict[str, Counter[tuple[int, int]]]
    core: dict[str, float]


def simulated(case: Case, dtype: str = "bf16") -> Counted:
    """Products as the simulator counts them; expert rows are not padded. R: forward work in the backward."""
    model = ModelSpec.model_validate(case.values)
    casts = Casts() if dtype == "bf16" else SeparateCasts()
    recipe = Recipe(
        BATCH, SEQ, casts, dtype != "bf16", case.recompute - {"layer"}, False, False, ep=1, nodes=1, nodes_per_token=1.0,
        ranks_per_token=1.0, checkpoint=_checkpoint(case),
    )  # fmt: skip
    (stage,) = build_workload(model, stage_layout(model, 1, None), recipe).stages
    counted = Counted({phase: Counter() for phase in "FIWR"}, dict.fromkeys("FIWR", 0.0))
    for op in (op for unit in stage.units for op in unit.ops()):
        if op.shape.op in ("gemm", "grouped_gemm"):
            phase, rows, widths = _layer(op)
            counted.rows[phase][widths] += rows
        elif op.shape.op.startswith("attention"):
            phase = "R" if op.phase == "I" and op.shape.op == "attention_fwd" else op.phase
            counted.core[phase] += op.flop * _all_pairs(op, model)
    return counted


def _layer(op: Op) -> tuple[str, int, tuple[int, int]]:
    """Pass, rows and widths of the linear layer that a GEMM is a product of."""
    m, n, k = op.shape.m, op.shape.n, op.shape.k
    if op.shape.variant == "wgrad":
        return "W", k, (m, n)
    if op.shape.variant == "dgrad":
        return "I", m, (k, n)
    return ("R" if op.phase == "I" else "F"), m, (n, k)


def _all_pairs(op: Op, model: ModelSpec) -> float:
    """Pairs of queries and keys over those that count under a causal mask, and a window where the operator has one."""
    window = getattr(model.attention, "window", None) if op.shape.flop else None
    return SEQ * SEQ / query_key_pairs(SEQ, True, window)


def kept_bytes(case: Case, act_dtype: str = "bf16") -> list[tuple[str, int]]:
    """(name, bytes) of every tensor that the simulator says is kept of one micro-batch, in forward order. act_dtype: of the
    layers' operands.
    """
    model = ModelSpec.model_validate(case.values)
    recipe = ActivationRecipe(
        BATCH * SEQ, act_dtype=act_dtype, recompute=case.recompute - {"layer"}, checkpoint=_checkpoint(case)
    )  # fmt: skip
    blocks = stage_blocks(model, stage_layout(model, 1, None)[0], recipe)
    return [(tensor.name, tensor.num_bytes) for block in blocks for tensor in (*block.saved, *block.outputs)]


def _checkpoint(case: Case) -> Checkpoint | None:
    return Checkpoint() if "layer" in case.recompute else None
