"""Layers that are measured alone. No torch here: predictions are made from the same list."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from hwprofiles.proof_cases.sizes import Products, even, gqa, in_words, mla, model, moe, skewed

Kind = Literal["moe", "mla", "gqa", "dense", "head"]
KINDS: Final[tuple[Kind, ...]] = ("moe", "mla", "gqa", "dense", "head")


@dataclass(frozen=True, slots=True)
class LayerCase:
    """One layer alone: norm, module and residual of half a transformer layer; of a head norm, logits and loss.

    moe, dense: the feed-forward half; mla, gqa: the attention half. values: of a model of one layer, in the form of the
    catalogue's files. sequences of length tokens each. load: of the routed experts. products: whose run the recipe.
    """

    kind: Kind
    recipe: str
    values: Mapping[str, Any]
    tokens: int
    sequences: int = 1
    load: Literal["even", "skewed"] = "even"
    products: Products = "library"

    @property
    def name(self) -> str:
        """What it is called in tables."""
        load = f" {self.load}" if self.kind == "moe" else ""
        return f"{self.values['name']} {in_words(self.recipe, self.products)} {self.sequences}x{self.tokens}{load}"

    @property
    def rows(self) -> tuple[int, ...]:
        """Rows of each expert; () where there are none."""
        if self.kind != "moe":
            return ()
        section, tokens = self.values["moe"], self.tokens * self.sequences
        rows, experts = tokens * section["top_k"], section["num_routed_experts"]
        return even(rows, experts) if self.load == "even" else skewed(rows, experts, tokens)


_NO_ATTENTION: Final = gqa(2, 2, 64)
"""Of layers whose attention is not measured."""


def moe_layer(hidden: int, *, sigmoid: bool = False, **sizes: int) -> dict[str, Any]:
    """Values of a model whose one layer has experts."""
    experts, top_k, width, shared = (sizes[name] for name in ("experts", "top_k", "width", "shared"))
    section = moe(experts, top_k, width, shared=shared, score="sigmoid" if sigmoid else "softmax")
    return model(f"moe h{hidden} e{experts} k{top_k} f{width} s{shared}", hidden, _NO_ATTENTION, experts=section)


def dense_layer(hidden: int, width: int) -> dict[str, Any]:
    """Of one with a feed-forward network."""
    return model(f"dense h{hidden} f{width}", hidden, _NO_ATTENTION, dense_width=width)


def head_layer(hidden: int, vocab: int) -> dict[str, Any]:
    """Of one whose head is measured."""
    return model(f"head h{hidden} v{vocab}", hidden, _NO_ATTENTION, dense_width=256, vocab=vocab)


def mla_layer(hidden: int, heads: int, q_rank: int) -> dict[str, Any]:
    """Of one with latent attention."""
    return model(f"mla h{hidden} n{heads} q{q_rank}", hidden, mla(heads, q_rank), dense_width=256)


def gqa_layer(hidden: int, heads: int, kv_heads: int, dim: int, *, qk_norm: bool = False) -> dict[str, Any]:
    """Of one with grouped-query attention."""
    name = f"gqa h{hidden} n{heads}/{kv_heads} d{dim}{' qk-norm' if qk_norm else ''}"
    return model(name, hidden, gqa(heads, kv_heads, dim, qk_norm=qk_norm), dense_width=256)


BOTH: Final = ("bf16", "fp8-blockwise")
RECIPES: Final = (*BOTH, "fp8-row")


def proved() -> Iterator[LayerCase]:
    """The layers that are proved: 1K to 16K tokens, 8 to 64 experts, hidden sizes of 1K to 7K, even and skewed loads.

    Of published models' kinds; of their weight shapes DeepSeek-V3's alone are shapes that a calibration measures.
    """
    yield from _proved_experts()
    for recipe in BOTH:
        yield LayerCase("mla", recipe, mla_layer(2048, 16, 0), 4096, 2)
        yield LayerCase("mla", recipe, mla_layer(5120, 40, 1536), 2048)
        yield LayerCase("gqa", recipe, gqa_layer(4096, 32, 8, 128), 8192)
        yield LayerCase("dense", recipe, dense_layer(3584, 18_944), 2048)
        yield LayerCase("dense", recipe, dense_layer(6144, 16_384), 8192)
    yield LayerCase("mla", "bf16", mla_layer(3584, 28, 768), 8192)
    yield LayerCase("gqa", "bf16", gqa_layer(2048, 32, 4, 128, qk_norm=True), 4096, 4)
    yield LayerCase("gqa", "bf16", gqa_layer(2880, 64, 8, 64), 4096)
    yield LayerCase("gqa", "bf16", gqa_layer(1024, 16, 8, 64), 1024)
    yield LayerCase("dense", "bf16", dense_layer(1536, 8960), 16_384)
    for hidden, vocab, tokens in (
        (2048, 151_936, 4096),
        (5120, 102_400, 2048),
        (7168, 129_280, 1024),
        (1024, 50_304, 16_384),
    ):
        yield LayerCase("head", "bf16", head_layer(hidden, vocab), tokens)


def _proved_experts() -> Iterator[LayerCase]:
    small = moe_layer(2048, experts=64, top_k=6, width=1408, shared=2)
    large = moe_layer(7168, sigmoid=True, experts=8, top_k=2, width=2048, shared=1)
    wide = moe_layer(5120, experts=16, top_k=1, width=8192, shared=1)
    middle = moe_layer(3072, experts=24, top_k=3, width=1536, shared=1)
    fine = moe_layer(1536, experts=40, top_k=8, width=512, shared=0)
    for recipe in BOTH:
        yield LayerCase("moe", recipe, small, 4096)
        yield LayerCase("moe", recipe, large, 8192)
        yield LayerCase("moe", recipe, wide, 2048)
        yield LayerCase("moe", recipe, middle, 12_288, load="skewed")
        yield LayerCase("moe", recipe, fine, 2048)
    yield LayerCase("moe", "bf16", small, 4096, load="skewed")
    yield LayerCase("moe", "bf16", moe_layer(1024, experts=32, top_k=4, width=512, shared=0), 16_384, load="skewed")
    yield LayerCase("moe", "bf16", moe_layer(4096, experts=8, top_k=2, width=14_336, shared=0), 4096, load="skewed")
    yield LayerCase("moe", "bf16", moe_layer(2880, experts=32, top_k=4, width=2880, shared=0), 8192)
    yield LayerCase("moe", "bf16", moe_layer(6144, experts=16, top_k=4, width=10_752, shared=0), 1024)


def quick() -> Iterator[LayerCase]:
    """One layer of every kind, also with a scale a row."""
    for recipe in RECIPES:
        yield LayerCase("moe", recipe, moe_layer(2048, experts=64, top_k=6, width=1408, shared=2), 4096)
        yield LayerCase("mla", recipe, mla_layer(2048, 16, 0), 4096, 2)
        yield LayerCase("dense", recipe, dense_layer(3584, 18_944), 2048)
    yield LayerCase("gqa", "bf16", gqa_layer(4096, 32, 8, 128), 8192)
    yield LayerCase("head", "bf16", head_layer(2048, 151_936), 4096)


def development() -> Iterator[LayerCase]:
    """Layers to look at: none of their sizes is one of those that are proved."""
    for recipe in RECIPES:
        yield LayerCase(
            "moe", recipe, moe_layer(2304, sigmoid=True, experts=16, top_k=4, width=1280, shared=1), 4096, load="even"
        )
        yield LayerCase("moe", recipe, moe_layer(1280, experts=48, top_k=6, width=640, shared=0), 3072, load="skewed")
        yield LayerCase("mla", recipe, mla_layer(2304, 20, 1024), 4096)
        yield LayerCase("mla", recipe, mla_layer(1792, 12, 0), 2048)
        yield LayerCase("gqa", recipe, gqa_layer(3328, 26, 2, 128), 4096)
        yield LayerCase("gqa", recipe, gqa_layer(1792, 14, 14, 128, qk_norm=True), 2048)
        yield LayerCase("dense", recipe, dense_layer(2304, 8192), 4096)
        yield LayerCase("head", recipe, head_layer(2304, 50_176), 4096)


def small() -> Iterator[LayerCase]:
    """Layers of a rehearsal on a CPU: one of every kind in both recipes."""
    for recipe in BOTH:
        yield LayerCase("moe", recipe, moe_layer(128, sigmoid=True, experts=4, top_k=2, width=128, shared=1), 32)
        yield LayerCase("moe", recipe, moe_layer(128, experts=4, top_k=2, width=128, shared=0), 32, load="skewed")
        tiny = model("mla tiny", 128, mla(2, 64, 32, 16, 16, 16), dense_width=128)
        yield LayerCase("mla", recipe, tiny, 32)
        yield LayerCase("gqa", recipe, model("gqa tiny", 128, gqa(4, 2, 32), dense_width=128), 32)
        yield LayerCase("dense", recipe, model("dense tiny", 128, gqa(2, 2, 32), dense_width=256), 32)
        yield LayerCase("head", recipe, model("head tiny", 128, gqa(2, 2, 32), dense_width=128, vocab=256), 32)
