"""Training steps that are measured. No torch here: predictions are made from the same list."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from hwprofiles.proof_cases.sizes import Products, gqa, in_words, mla, model, moe

Issue = Literal["eager", "graph"]


@dataclass(frozen=True, slots=True)
class StepCase:
    """Steps of one model on one GPU. sequences of length tokens in a micro-batch; recompute: modules of model.recompute.

    issue: eager: the host launches every kernel; graph: one CUDA graph holds forward, backward and optimizer. Loads are even.
    products: whose run the recipe.
    """

    values: Mapping[str, Any]
    recipe: str = "bf16"
    tokens: int = 4096
    sequences: int = 1
    micro_batches: int = 1
    recompute: tuple[str, ...] = ()
    issue: Issue = "eager"
    products: Products = "library"

    @property
    def name(self) -> str:
        """What it is called in tables."""
        again = f" {'+'.join(self.recompute)} again" if self.recompute else ""
        batch = f"{self.micro_batches}x{self.sequences}x{self.tokens}"
        return f"{self.values['name']} {in_words(self.recipe, self.products)} {batch} {self.issue}{again}"


FINE: Final = model(
    "fine experts", 2048, mla(16, 0), layers=5, dense=1, dense_width=10_880,
    experts=moe(64, 6, 1408, shared=2), vocab=32_768,
)  # fmt: skip
MANY: Final = model(
    "many experts", 2048, gqa(32, 4, 128, qk_norm=True), layers=5, experts=moe(128, 8, 768), vocab=32_768
)
FEW: Final = model("few experts", 1536, gqa(12, 4, 128), layers=10, experts=moe(8, 2, 4096), vocab=32_000)
AHEAD: Final = model(
    "two tokens ahead", 2560, mla(20, 768), layers=3, dense=1, dense_width=6912,
    experts=moe(16, 4, 1536, shared=1, score="sigmoid"), vocab=32_768, num_mtp=1,
)  # fmt: skip
DEEP: Final = model("deep", 768, gqa(12, 4, 64), layers=20, experts=moe(16, 2, 768), vocab=32_000)
SQUARE: Final = model("square experts", 2880, gqa(64, 8, 64), layers=2, experts=moe(32, 4, 2880), vocab=50_176)
LATENT: Final = model(
    "latent", 1024, mla(16, 0), layers=10, dense=1, dense_width=4096, experts=moe(32, 4, 512, shared=1), vocab=50_304
)  # fmt: skip
MODELS: Final = (FINE, MANY, FEW, AHEAD, DEEP, SQUARE, LATENT)
"""0.6 to 3.2 B parameters."""
_FP8: Final = (FINE, AHEAD, FEW)
_LONG: Final = {"deep": (2048, 4), "latent": (4096, 2), "few experts": (2048, 2)}
"""Tokens and sequences of a micro-batch, where they are others than one sequence of 4,096."""


def proved() -> Iterator[StepCase]:
    """Every model by itself first, then its other ways of running."""
    for values in MODELS:
        yield _case(values)
    for values in MODELS:
        yield _case(values, micro_batches=4)
        yield _case(values, recompute=("layer",))
    for values in _FP8:
        yield _case(values, recipe="fp8-blockwise", micro_batches=4)
    yield _case(AHEAD, recompute=("rmsnorm", "swiglu", "mla_up_proj"))
    yield _case(MANY, micro_batches=4, recompute=("layer",))
    for values in MODELS:  # last: what a graph cannot hold may leave the device in a bad state
        yield _case(values, issue="graph")


def quick() -> Iterator[StepCase]:
    """Two models, eager and by a graph."""
    for values in (AHEAD, DEEP):
        yield _case(values)
        yield _case(values, issue="graph")


def small() -> Iterator[StepCase]:
    """A rehearsal on a CPU."""
    values = model(
        "tiny", 64, mla(2, 0, 32, 16, 16, 16), layers=2, dense=1, dense_width=128, experts=moe(4, 2, 64), vocab=128
    )
    ahead = model("tiny ahead", 64, gqa(2, 1, 32), layers=1, experts=moe(4, 2, 64, shared=1), vocab=128, num_mtp=1)
    yield StepCase(values, tokens=32)
    yield StepCase(values, tokens=32, micro_batches=2, recompute=("layer",))
    yield StepCase(ahead, recipe="fp8-blockwise", tokens=32)
    yield StepCase(ahead, tokens=32, issue="graph")


def _case(values: Mapping[str, Any], **ways: Any) -> StepCase:
    tokens, sequences = _LONG.get(values["name"], (4096, 1))
    return StepCase(values, tokens=tokens, sequences=sequences, **ways)
