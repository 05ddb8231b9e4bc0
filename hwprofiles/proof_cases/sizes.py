"""Sizes of the models whose layers and steps are measured, in the form of a model file of the catalogue. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

Values = Mapping[str, Any]
Products = Literal["library", "own"]
"""Whose products run a recipe: the GPU's library's, or this project's (hwprofiles/calibration/kernels), of OWN alone."""
OWN: Final = "fp8-blockwise"


def in_words(recipe: str, products: Products) -> str:
    """Number formats in words: the recipe, and whose products where they are not the library's."""
    return recipe if products == "library" else f"{recipe} own"


def mla(heads: int, q_rank: int, kv_rank: int = 512, nope: int = 128, rope: int = 64, v: int = 128) -> dict[str, Any]:
    """Latent attention; q_rank 0: queries without a latent."""
    return {
        "kind": "mla", "num_heads": heads, "q_lora_rank": q_rank, "kv_lora_rank": kv_rank, "qk_nope_head_dim": nope,
        "qk_rope_head_dim": rope, "v_head_dim": v,
    }  # fmt: skip


def gqa(heads: int, kv_heads: int, dim: int, *, qk_norm: bool = False) -> dict[str, Any]:
    """Grouped-query attention."""
    return {"kind": "gqa", "num_heads": heads, "num_kv_heads": kv_heads, "head_dim": dim, "qk_norm": qk_norm}


def moe(experts: int, top_k: int, width: int, *, shared: int = 0, score: str = "softmax") -> dict[str, Any]:
    """Routed experts, and shared ones; sigmoid scores come with a bias, as DeepSeek-V3's."""
    return {
        "num_routed_experts": experts, "top_k": top_k, "expert_intermediate_size": width, "num_shared_experts": shared,
        "score": score, "router_bias": score == "sigmoid",
    }  # fmt: skip


def model(
    name: str,
    hidden: int,
    attention: Mapping[str, Any],
    *,
    layers: int = 1,
    dense: int = 0,
    dense_width: int = 0,
    experts: Mapping[str, Any] | None = None,
    vocab: int = 32_768,
    num_mtp: int = 0,
) -> dict[str, Any]:
    """Values of a model; dense: layers without experts, in front."""
    values: dict[str, Any] = {
        "name": name, "hidden_size": hidden, "num_layers": layers, "vocab_size": vocab, "attention": dict(attention),
        "num_dense_layers": dense if experts else layers,
    }  # fmt: skip
    if dense_width:
        values["dense_ffn"] = {"intermediate_size": dense_width}
    if experts:
        values["moe"] = dict(experts)
    if num_mtp:
        values["mtp"] = {"num_modules": num_mtp}
    return values


def even(rows: int, experts: int) -> tuple[int, ...]:
    """Rows of each expert, as alike as whole numbers are."""
    each, more = divmod(rows, experts)
    return tuple(each + (idx < more) for idx in range(experts))


def skewed(rows: int, experts: int, tokens: int) -> tuple[int, ...]:
    """Rows that fall as 1 / (1 + i / 4), no expert with more than `tokens` of them: a token goes to an expert once."""
    weights = [1.0 / (1.0 + idx / 4.0) for idx in range(experts)]
    counts = [min(tokens, int(rows * weight / sum(weights))) for weight in weights]
    left = rows - sum(counts)
    for idx in range(experts):
        taken = min(left, tokens - counts[idx])
        counts[idx], left = counts[idx] + taken, left - taken
    return tuple(counts)


def uneven(counts: tuple[int, ...]) -> float:
    """Standard deviation of the counts over their mean."""
    mean = sum(counts) / len(counts)
    return float((sum((count - mean) ** 2 for count in counts) / len(counts)) ** 0.5 / mean)
