"""Scores of tokens: correlated in a sequence, on top of the popularity of each expert.

A token's score of expert e is a function of r_e = w_e G_e / X_e. w_e is the expert's popularity; G_e the affinity of the
token's sequence, gamma of shape A / experts and mean 1; X_e the token's own, exponential of mean 1. In logits:
ln w_e + ln G_e + a Gumbel variate. With equal popularity the best single expert is then Dirichlet-multinomial of total
concentration A, and the best k are successive draws without replacement (Plackett-Luce). The score is increasing in r:
    sigmoid   r / (r + experts / top_k), the sigmoid of ln r shifted so that a chosen expert's score is above about 1/2
    softmax   r / sum of r
"""

from __future__ import annotations

from math import inf, log, sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from simulator import portable
from simulator.workload.routing_rule import RoutingRule, Scores

FLOOR = 1e-30
"""Lowest affinity: above the underflow of a 4-byte float, so that experts that a sequence avoids stay ordered at random."""


def popularity(rule: RoutingRule, rng: np.random.Generator) -> NDArray[np.float64]:
    """(num_experts,) weights of mean 1: the quantiles of a log-normal law in random order.

    Quantiles and not draws: one layer's sample would scatter the coefficient of variation by several per cent.
    """
    spread = sqrt(log(1.0 + rule.popularity_cv**2))
    normal = NormalDist()
    levels = (np.arange(rule.num_experts) + 0.5) / rule.num_experts
    weights = portable.exp(spread * np.array([normal.inv_cdf(level) for level in levels]))
    return rng.permutation(weights / weights.mean())


def affinities(rule: RoutingRule, sequences: int, rng: np.random.Generator) -> Scores:
    """(sequences, num_experts) gamma variates of mean 1; ones for independent tokens."""
    if rule.concentration == inf:
        return np.ones((sequences, rule.num_experts), np.float32)
    shape = rule.concentration / rule.num_experts
    return np.maximum(rng.standard_gamma(shape, (sequences, rule.num_experts)) / shape, FLOOR).astype(np.float32)


def token_scores(rule: RoutingRule, weights: Scores, rng: np.random.Generator) -> Scores:
    """Scores of tokens whose experts have these weights (w × G), of the same shape (..., num_experts)."""
    own = rng.standard_exponential(weights.shape, dtype=np.float32)
    if rule.score == "sigmoid":
        return np.asarray(weights / (weights + np.float32(rule.num_experts / rule.top_k) * own))
    ratio = weights / np.maximum(own, np.float32(FLOOR))
    return np.asarray(ratio / ratio.sum(axis=-1, keepdims=True))


def lone_tokens(pool: Scores, tokens: int, rng: np.random.Generator) -> Scores:
    """(tokens, num_experts) affinities of tokens from sequences of their own.

    pool: (sequences, num_experts) independent variates. Each token takes a window of the flattened pool, so every expert
    sees the whole pool and none is favoured by what it happens to hold.
    """
    flat, width = pool.reshape(-1), pool.shape[1]
    start = rng.integers(0, flat.size - width + 1, tokens)
    return np.asarray(np.lib.stride_tricks.sliding_window_view(flat, width)[start])
