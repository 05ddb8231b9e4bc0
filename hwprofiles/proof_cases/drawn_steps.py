"""Steps of a second proof, of models drawn by a rule, so that nobody chose them.

The rule: a generator of a fixed seed draws six models, each size from its list below, each alike likely, latent and
grouped-query attention in turn. A model is drawn again where it has less or more than PARAMETERS, where its experts, all layers
together, are more than LOOPED (an eager FP8 step launches each by itself), where its products are more than FLOP a micro-batch
forward, or where its experts have fewer than ROWS rows. How each is run says WAYS, by its number.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any, Final

from hwprofiles.proof_cases.sizes import OWN, gqa, mla, model, moe
from hwprofiles.proof_cases.step_cases import StepCase
from hwprofiles.units import GIGA, TERA

SEED: Final = 20_261_129
LATER: Final = 20_261_130
"""Of models for a second proof, drawn when the first one's were measured; each is run in the first LATER_WAYS of its ways."""
LATER_WAYS: Final = 3
OWN_SEED: Final = 20_261_132
"""Of models for this project's products."""
PARAMETERS: Final = (0.3 * GIGA, 3.0 * GIGA)
LOOPED: Final = 192
FLOP: Final = 12 * TERA
ROWS: Final = 64
HIDDEN: Final = tuple(range(768, 2560 + 1, 256))
LAYERS: Final = (3, 4, 5, 6, 8, 10, 12)
"""With those in front that have no experts."""
DENSE: Final = (0, 1)
DENSE_TIMES: Final = (2, 3, 4)
"""Width of a dense network over the hidden size."""
EXPERTS: Final = (8, 12, 16, 24, 32, 48, 64)
TOP_K: Final = (2, 4, 6, 8)
EXPERT_WIDTH: Final = tuple(range(512, 3072 + 1, 256))
SHARED: Final = (0, 1)
VOCABULARY: Final = (32_000, 50_304, 65_536)
NUM_MTP: Final = (0, 0, 0, 1)
HEAD_DIMS: Final = (64, 128)
GROUPS: Final = (1, 2, 4)
"""Heads of queries for each of keys."""
Q_RANKS: Final = (0, 512, 768)
BATCHES: Final = ((4096, 1), (2048, 2), (2048, 4), (4096, 2))
"""Tokens of a sequence, and sequences of a micro-batch."""
_PARTS: Final = ("rmsnorm", "swiglu")

WAYS: Final[tuple[tuple[dict[str, Any], ...], ...]] = (
    ({}, {"micro_batches": 3}, {"recipe": "fp8-blockwise", "micro_batches": 2}, {"issue": "graph"}),
    ({}, {"recompute": ("layer",)}, {"recipe": "fp8-row", "micro_batches": 2}, {"recompute": _PARTS}),
    ({}, {"micro_batches": 3}, {"recipe": "fp8-blockwise", "recompute": ("layer",)}, {"recipe": "fp8-row"}),
    ({}, {"recompute": ("layer",)}, {"recipe": "fp8-blockwise"}, {"issue": "graph"}),
    ({}, {"micro_batches": 3}, {"recipe": "fp8-row", "recompute": ("layer",)}, {"recompute": _PARTS}),
    ({}, {"recompute": ("layer",)}, {"recipe": "fp8-blockwise", "micro_batches": 2}, {"issue": "graph"}),
)  # fmt: skip
"""Of each model: what of StepCase is other than a step of one micro-batch in BF16, launched by the host."""
OWN_WAYS: Final[tuple[dict[str, Any], ...]] = (
    {"issue": "graph"}, {"issue": "graph", "micro_batches": 2}, {"issue": "graph", "recompute": _PARTS},
)  # fmt: skip
"""Of each model by this project's products: as graphs, in which the host has no part (small models have the library's)."""


def drawn() -> Iterator[StepCase]:
    """All models by themselves first, graphs last: what one cannot hold may leave the device in a bad state."""
    yield from _steps(SEED, "ABCDEF", max(map(len, WAYS)))


def drawn_later() -> Iterator[StepCase]:
    """The same of the models that were drawn later."""
    yield from _steps(LATER, "GHIJKL", LATER_WAYS)


def drawn_own() -> Iterator[StepCase]:
    """Three models more by this project's products."""
    for way in OWN_WAYS:
        for values, tokens, sequences in _models(OWN_SEED, "MNO"):
            yield StepCase(values, recipe=OWN, tokens=tokens, sequences=sequences, products="own", **way)


def _steps(seed: int, letters: str, ways_each: int) -> Iterator[StepCase]:
    found = list(_models(seed, letters))
    cases = [
        StepCase(values, tokens=tokens, sequences=sequences, **way)
        for number in range(ways_each)
        for (values, tokens, sequences), ways in zip(found, WAYS, strict=True)
        for way in ways[number : number + 1]
    ]
    yield from (case for case in cases if case.issue == "eager")
    yield from (case for case in cases if case.issue == "graph")


def _models(seed: int, letters: str) -> Iterator[tuple[dict[str, Any], int, int]]:
    """(values, tokens of a sequence, sequences) of each model."""
    draws = Random(seed)  # noqa: S311
    for number, letter in enumerate(letters):
        while True:
            values, weights, active = _drawn(draws, is_latent=number % 2 == 0)
            tokens, sequences = draws.choice(BATCHES)
            layers, experts = values["num_layers"] - values["num_dense_layers"], values["moe"]["num_routed_experts"]
            rows = tokens * sequences * values["moe"]["top_k"] / experts
            is_fitting = PARAMETERS[0] <= weights <= PARAMETERS[1] and rows >= ROWS
            if is_fitting and layers * experts <= LOOPED and 2.0 * active * tokens * sequences <= FLOP:
                break
        yield {**values, "name": f"drawn {letter}"}, tokens, sequences


def _drawn(draws: Random, *, is_latent: bool) -> tuple[dict[str, Any], float, float]:
    """Values, all weights, and those that a token meets."""
    hidden, layers, dense, times = (draws.choice(each) for each in (HIDDEN, LAYERS, DENSE, DENSE_TIMES))
    experts, top_k, width, shared = (draws.choice(each) for each in (EXPERTS, TOP_K, EXPERT_WIDTH, SHARED))
    vocabulary, num_mtp, is_sigmoid = draws.choice(VOCABULARY), draws.choice(NUM_MTP), draws.random() < 0.5
    attention, of_attention = _latent(draws, hidden) if is_latent else _grouped(draws, hidden)
    section = moe(experts, top_k, width, shared=shared, score="sigmoid" if is_sigmoid else "softmax")
    values = model(
        "", hidden, attention, layers=layers, dense=dense, dense_width=dense * times * hidden, experts=section,
        vocab=vocabulary, num_mtp=num_mtp,
    )  # fmt: skip
    each, routed = 3.0 * hidden * width, layers - dense + num_mtp
    beside = (layers + num_mtp) * of_attention + dense * 3.0 * times * hidden**2 + vocabulary * hidden * (1 + num_mtp)
    return (
        values, beside + routed * each * (experts + shared) + vocabulary * hidden,
        beside + routed * each * (top_k + shared),
    )  # fmt: skip


def _latent(draws: Random, hidden: int) -> tuple[dict[str, Any], float]:
    """Heads of 128 whose output is as wide as the hidden state."""
    heads, q_rank = hidden // 128, draws.choice(Q_RANKS)
    weights = hidden * (q_rank + 576.0 + heads * 128) + heads * (192.0 * (q_rank or hidden) + 512.0 * 256)
    return mla(heads, q_rank), weights


def _grouped(draws: Random, hidden: int) -> tuple[dict[str, Any], float]:
    dim, group = draws.choice(HEAD_DIMS), draws.choice(GROUPS)
    heads = hidden // dim
    kv_heads = heads // group if heads % group == 0 else heads
    return gqa(heads, kv_heads, dim, qk_norm=draws.random() < 0.5), hidden * dim * (2.0 * heads + 2.0 * kv_heads)
