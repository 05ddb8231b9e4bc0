"""What a balancing rule makes of the popularity of experts over a run: its steady state.

learned   auxiliary-loss-free (arXiv:2408.15664; DeepSeek-V3 report 2.1.2): after a step the bias of every expert moves by
          the update rate against the sign of its load error in that step's batch. The bias is integral control: it leaves
          no mean error, only a tremor, from its own steps, from the noise of a batch and from the drift of the router.
aux_loss  a stated simplification: the auxiliary loss presses on the mean log affinity of an expert in proportion to its
          load error, the language loss pulls it back to what the data want; they meet at
          ln w = ln w_natural - pressure × (load / mean - 1). Proportional control: an error remains.
"""

from __future__ import annotations

from math import pi, sqrt

import numpy as np
from numpy.typing import NDArray

from simulator import portable
from simulator.workload.routing_rule import RoutingRule, Scores, select_experts
from simulator.workload.routing_scores import lone_tokens, token_scores

Floats = NDArray[np.float64]

APPROACH_STEPS, APPROACH_TOKENS = 48, 512
"""Updates on fresh tokens with a falling rate, which bring the rule near its steady state; the last half is averaged."""
FALL_STEPS = 6
"""Updates after which the rate has halved."""
TREMOR_STEPS = 600
"""Updates at the true rate over which the tremor is measured."""
PROBE = 0.02
"""Perturbation of the bias, as part of the score at which an expert is chosen, by which the response of loads is measured."""


def expert_loads(rule: RoutingRule, scores: Scores) -> Floats:
    """(num_experts,) load over mean load of the tokens with these biased scores (tokens, num_experts)."""
    chosen = select_experts(scores, rule)
    counts = np.bincount(chosen.reshape(-1), minlength=rule.num_experts).astype(np.float64)
    return counts * (rule.num_experts / chosen.size)


def threshold(rule: RoutingRule, scores: Scores) -> float:
    """Mean score of a token's last expert without limits: the scale on which a bias acts."""
    at = rule.num_experts - rule.top_k
    return float(np.partition(scores, at, axis=-1)[..., at].mean())


def learned_bias(rule: RoutingRule, weights: Floats, pool: Scores, rng: np.random.Generator) -> Scores:
    """(num_experts,) bias near the steady state of the sign rule, from zero."""
    bias = np.zeros(rule.num_experts)
    late: list[Floats] = []
    rate = 0.0
    for step in range(APPROACH_STEPS):
        scores = _fresh(rule, weights, pool, rng)
        if step == 0:
            rate = threshold(rule, scores) / 10
        load = expert_loads(rule, scores + bias.astype(np.float32))
        bias = bias - rate / (1 + step / FALL_STEPS) * np.sign(load - 1.0)
        late.append(bias)
    settled = np.mean(late[APPROACH_STEPS // 2 :], axis=0)
    return np.asarray(settled - settled.mean(), dtype=np.float32)


def pressed_weights(rule: RoutingRule, weights: Floats, pool: Scores, rng: np.random.Generator) -> Floats:
    """(num_experts,) popularity at which the auxiliary loss and the language loss balance."""
    natural = portable.log(weights)
    log_weights, late = natural.copy(), []
    for step in range(APPROACH_STEPS):
        load = expert_loads(rule, _fresh(rule, portable.exp(log_weights), pool, rng))
        pull = log_weights - natural + rule.aux_loss_pressure * (load - 1.0)
        log_weights = log_weights - pull / (1.0 + rule.aux_loss_pressure) / (1 + step / FALL_STEPS)
        late.append(log_weights)
    return portable.exp(np.mean(late[APPROACH_STEPS // 2 :], axis=0))


def load_response(rule: RoutingRule, scores: Scores, rng: np.random.Generator) -> float:
    """Relative change of an expert's load a unit of bias, the mean bias held; scores: (tokens, num_experts), biased."""
    signs = rng.permutation(np.where(np.arange(rule.num_experts) % 2, 1.0, -1.0))
    step = PROBE * threshold(rule, scores)
    change = expert_loads(rule, scores + (step * signs).astype(np.float32)) - expert_loads(rule, scores)
    return float((change * signs).mean() / step)


def tremor_cv(rule: RoutingRule, response: float, batch_cv: float, rng: np.random.Generator) -> float:
    """Coefficient of variation of the experts' expected loads under the sign rule in its steady state.

    response: of load_response. batch_cv: of an expert's load in one step's batch. The load error y follows
    y' = y - rate × response × sign(y + batch noise) + drift; it starts at the spread that this has where the batch's noise
    is the largest of the three (an Ornstein-Uhlenbeck process), and is followed for some hundred steps.
    """
    stride, drift = rule.bias_update_rate * response, rule.popularity_drift_cv
    if stride <= 0:
        return 0.0
    start = (stride**2 + drift**2) * batch_cv * sqrt(2 * pi) / (4 * stride)
    error = sqrt(start) * rng.standard_normal(rule.num_experts)
    noise = batch_cv * rng.standard_normal((TREMOR_STEPS, rule.num_experts))
    drifts = drift * rng.standard_normal((TREMOR_STEPS, rule.num_experts))
    total = 0.0
    for step in range(TREMOR_STEPS):
        seen = error + noise[step]
        error = error - stride * np.sign(seen - seen.mean()) + drifts[step]
        error = error - error.mean()
        if step >= TREMOR_STEPS // 3:
            total += float(error.var())
    return sqrt(total / (TREMOR_STEPS - TREMOR_STEPS // 3))


def _fresh(rule: RoutingRule, weights: Floats, pool: Scores, rng: np.random.Generator) -> Scores:
    """Scores of new tokens, each of a sequence of its own."""
    lone = lone_tokens(pool, APPROACH_TOKENS, rng)
    return token_scores(rule, lone * weights.astype(np.float32), rng)
