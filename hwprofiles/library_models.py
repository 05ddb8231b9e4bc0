"""Models of Hugging Face transformers whose training steps are measured: configurations of one GPU with random weights.

`judged` ones are predicted before they are measured; the others are what the counting of operators was read off.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class LibraryModel:
    """One step. config: arguments of the library's configuration class and model_type; attention: its name for the core's
    kernels; checkpointing: whether layers are computed again in the backward.
    """

    name: str
    batch: int
    seq: int
    config: Mapping[str, Any] = field(hash=False)
    attention: str = "sdpa"
    checkpointing: bool = False
    judged: bool = True


def _config(model_type: str, hidden: int, layers: int, heads: int, kv_heads: int, **more: Any) -> Mapping[str, Any]:
    return MappingProxyType({
        "model_type": model_type, "vocab_size": 32_768, "hidden_size": hidden, "num_hidden_layers": layers,
        "num_attention_heads": heads, "num_key_value_heads": kv_heads, "tie_word_embeddings": False,
        "pad_token_id": None, **more,
    })  # fmt: skip


_QWEN3_MOE: Final = _config(
    "qwen3_moe", 2048, 8, 32, 4, head_dim=128, moe_intermediate_size=768, num_experts=64, num_experts_per_tok=8,
    norm_topk_prob=True,
)  # fmt: skip
_DEEPSEEK: Final = _config(
    "deepseek_v3", 2048, 6, 16, 16, q_lora_rank=None, kv_lora_rank=512, qk_nope_head_dim=128, qk_rope_head_dim=64,
    v_head_dim=128, intermediate_size=8192, moe_intermediate_size=1024, n_routed_experts=64, n_shared_experts=2,
    num_experts_per_tok=6, n_group=1, topk_group=1, first_k_dense_replace=1, routed_scaling_factor=2.5,
)  # fmt: skip
_MIXTRAL: Final = _config("mixtral", 2048, 8, 32, 8, intermediate_size=4096, num_local_experts=8, num_experts_per_tok=2)
_OLMOE: Final = _config(
    "olmoe",
    2048,
    8,
    16,
    16,
    intermediate_size=1024,
    num_experts=64,
    num_experts_per_tok=8,
    max_position_embeddings=4096,
)
_GPT_OSS: Final = _config(
    "gpt_oss", 2048, 8, 32, 8, head_dim=64, intermediate_size=2048, num_local_experts=32, num_experts_per_tok=4,
    sliding_window=128,
)  # fmt: skip
_QWEN3: Final = _config("qwen3", 1024, 28, 16, 8, head_dim=128, intermediate_size=3072)
_LLAMA: Final = _config("llama", 2048, 16, 32, 8, intermediate_size=8192, max_position_embeddings=4096)
_SMALL: Final = _config(
    "qwen3_moe", 512, 12, 8, 4, head_dim=64, moe_intermediate_size=256, num_experts=16, num_experts_per_tok=2,
    norm_topk_prob=True,
)  # fmt: skip

MODELS: Final[tuple[LibraryModel, ...]] = (
    LibraryModel("qwen3-moe-2.7b", 2, 4096, _QWEN3_MOE, judged=False),
    LibraryModel("mixtral-2b", 2, 2048, _MIXTRAL, judged=False),
    LibraryModel("llama-1b", 2, 2048, _LLAMA, judged=False),
    LibraryModel("qwen3-moe-2.7b-short", 4, 1024, _QWEN3_MOE),
    LibraryModel("qwen3-moe-2.7b-checkpointed", 2, 4096, _QWEN3_MOE, checkpointing=True),
    LibraryModel("olmoe-3.5b", 2, 2048, _OLMOE),
    LibraryModel("deepseek-v3-2.5b", 2, 4096, _DEEPSEEK),
    LibraryModel("gpt-oss-3.5b", 1, 2048, _GPT_OSS, attention="eager"),
    LibraryModel("qwen3-0.6b", 4, 2048, _QWEN3),
    LibraryModel("llama-1b-checkpointed", 4, 4096, _LLAMA, checkpointing=True),
    LibraryModel("qwen3-moe-small", 1, 512, _SMALL),
)
"""The first is the model of the published trace."""

REHEARSED: Final[Mapping[str, Any]] = MappingProxyType({
    "vocab_size": 256, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 16, "intermediate_size": 64, "moe_intermediate_size": 32, "num_experts": 4, "num_local_experts": 4,
    "n_routed_experts": 4, "num_experts_per_tok": 2, "kv_lora_rank": 32, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8,
    "v_head_dim": 16,
})  # fmt: skip
"""Sizes of a rehearsal without a GPU, of the keys that a configuration has."""


def rehearsal(model: LibraryModel) -> LibraryModel:
    """The same model, small; as many heads of keys as of queries where it has that."""
    config = {key: REHEARSED.get(key, value) for key, value in model.config.items()}
    if model.config["num_attention_heads"] == model.config["num_key_value_heads"]:
        config["num_key_value_heads"] = config["num_attention_heads"]
    return LibraryModel(model.name, 1, 32, config, model.attention, model.checkpointing, model.judged)
