"""Layers of a second proof, drawn by a rule, so that nobody chose them.

The rule: a generator of a fixed seed draws, for every recipe, so many layers of each kind as COUNTS says: first how many
tokens, then the other sizes, from the lists below, each alike likely. Sizes are drawn again where a layer of these is in
another list of this package or was drawn before, where its weights are more than WEIGHTS numbers (with gradients and FP8
forms they would not fit beside the rest), where its products are more than FLOP forward (a layer is timed 36 times), or where
its experts have fewer than ROWS rows on the mean. Loads of experts are even and skewed in turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Any, Final

from hwprofiles.proof_cases.layer_cases import (
    RECIPES,
    Kind,
    LayerCase,
    dense_layer,
    development,
    gqa_layer,
    head_layer,
    mla_layer,
    moe_layer,
    proved,
    quick,
)
from hwprofiles.proof_cases.sizes import OWN
from hwprofiles.units import MEGA, TERA

SEED: Final = 20_261_128
COUNTS: Final[dict[Kind, int]] = {"moe": 4, "mla": 2, "gqa": 2, "dense": 2, "head": 1}
"""Of each recipe; heads stay in BF16 in every one."""
OWN_SEED: Final = 20_261_131
OWN_COUNTS: Final[dict[Kind, int]] = {"moe": 8, "dense": 4, "mla": 2, "gqa": 2}
"""Of layers for this project's products: networks, which are one function there, twice as many."""
HIDDEN: Final = tuple(range(1024, 7168 + 1, 256))
TOKENS: Final = (1024, 2048, 4096, 8192, 16_384)
"""Of a call; attention's are one sequence or several, none shorter than the first of these."""
EXPERTS: Final = (8, 12, 16, 24, 32, 48, 64)
TOP_K: Final = (1, 2, 4, 6, 8)
EXPERT_WIDTH: Final = tuple(range(512, 4096 + 1, 256))
DENSE_WIDTH: Final = tuple(range(2048, 28_672 + 1, 512))
VOCABULARY: Final = tuple(range(32_768, 163_840 + 1, 1024))
HEADS: Final = tuple(range(8, 64 + 1, 4))
GROUPS: Final = (1, 2, 4, 8)
"""Heads of queries for each of keys."""
HEAD_DIMS: Final = (64, 128)
Q_RANKS: Final = (0, 512, 768, 1024, 1536)
WEIGHTS: Final = 1_500 * MEGA
FLOP: Final = 8 * TERA
ROWS: Final = 64


def drawn() -> Iterator[LayerCase]:
    """The layers in the order in which they were drawn."""
    yield from _drawn(SEED, RECIPES, COUNTS, (*proved(), *quick(), *development()))


def drawn_own() -> Iterator[LayerCase]:
    """The same rule with another seed and counts, for this project's products; none is a layer of the first list."""
    cases = _drawn(OWN_SEED, (OWN,), OWN_COUNTS, (*proved(), *quick(), *development(), *drawn()))
    yield from (replace(case, products="own") for case in cases)


def _drawn(
    seed: int, recipes: Sequence[str], counts: Mapping[Kind, int], known: Iterable[LayerCase]
) -> Iterator[LayerCase]:
    draws = Random(seed)  # noqa: S311
    seen = {_sizes(case) for case in known}
    number = 0
    for recipe in recipes:
        for kind, count in counts.items():
            for _ in range(count):
                case = _new(draws, kind, recipe, seen, number)
                number += kind == "moe"
                yield case


def _new(draws: Random, kind: Kind, recipe: str, seen: set[tuple[Any, ...]], number: int) -> LayerCase:
    tokens, load = draws.choice(TOKENS), ("even", "skewed")[number % 2]
    most = 4 if kind in ("mla", "gqa") else 1
    sequences = draws.choice([each for each in (1, 2, 4) if each <= most and tokens // each >= TOKENS[0]])
    while True:
        values, flop, weights, rows = _DRAWN[kind](draws)
        formats = "bf16" if kind == "head" else recipe
        case = LayerCase(kind, formats, values, tokens // sequences, sequences, load)  # type: ignore[arg-type]
        if weights <= WEIGHTS and flop * tokens <= FLOP and rows * tokens >= ROWS and _sizes(case) not in seen:
            seen.add(_sizes(case))
            return case


def _sizes(case: LayerCase) -> tuple[Any, ...]:
    return case.values["name"], case.tokens, case.sequences


Drawn = tuple[dict[str, Any], float, float, float]
"""Values; FLOP of a token's products, forward; numbers of weights; an expert's rows for each token (1 without experts)."""


def _moe(draws: Random) -> Drawn:
    hidden, experts, top_k, width = (draws.choice(each) for each in (HIDDEN, EXPERTS, TOP_K, EXPERT_WIDTH))
    shared, is_sigmoid = draws.choice((0, 1, 2)), draws.random() < 0.5
    values = moe_layer(hidden, sigmoid=is_sigmoid, experts=experts, top_k=top_k, width=width, shared=shared)
    each = 3.0 * hidden * width
    return values, 2.0 * each * (top_k + shared), each * (experts + shared), top_k / experts


def _mla(draws: Random) -> Drawn:
    hidden, heads, q_rank = (draws.choice(each) for each in (HIDDEN, HEADS, Q_RANKS))
    weights = hidden * (q_rank + 576.0 + heads * 128) + heads * (192.0 * (q_rank or hidden) + 512.0 * 256)
    return mla_layer(hidden, heads, q_rank), 2.0 * weights, weights, 1.0


def _gqa(draws: Random) -> Drawn:
    hidden, heads, group, dim = (draws.choice(each) for each in (HIDDEN, HEADS, GROUPS, HEAD_DIMS))
    kv_heads = max(1, heads // group) if heads % group == 0 else heads
    weights = hidden * dim * (2.0 * heads + 2.0 * kv_heads)
    values = gqa_layer(hidden, heads, kv_heads, dim, qk_norm=draws.random() < 0.5)
    return values, 2.0 * weights, weights, 1.0


def _dense(draws: Random) -> Drawn:
    hidden, width = draws.choice(HIDDEN), draws.choice(DENSE_WIDTH)
    weights = 3.0 * hidden * width
    return dense_layer(hidden, width), 2.0 * weights, weights, 1.0


def _head(draws: Random) -> Drawn:
    hidden, vocabulary = draws.choice(HIDDEN), draws.choice(VOCABULARY)
    weights = 1.0 * hidden * vocabulary
    return head_layer(hidden, vocabulary), 2.0 * weights, weights, 1.0


_DRAWN: Final[dict[Kind, Callable[[Random], Drawn]]] = {
    "moe": _moe, "mla": _mla, "gqa": _gqa, "dense": _dense, "head": _head,
}  # fmt: skip
