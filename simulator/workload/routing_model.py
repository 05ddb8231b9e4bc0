"""A router simulated token by token: how uneven loads are, and how many nodes and ranks a token reaches.

Some tokens of some hundred sequences are routed by the model's rule in the steady state of its balancing rule. Of a place's
share of a sequence (place: expert, rank or node) the variance is taken apart: between sequences, and inside one, which
falls with its tokens. The load of S sequences of T tokens has the relative variance (between + inside / T) / S, so a few
tokens of a sequence are enough and the tokens that were not simulated enter in closed form.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulator.draws import generator
from simulator.workload.balancing import expert_loads, learned_bias, load_response, pressed_weights, tremor_cv
from simulator.workload.expert_load import group_loads, independent_node_cv
from simulator.workload.routing_rule import Experts, RoutingRule, Scores, select_experts
from simulator.workload.routing_scores import affinities, lone_tokens, popularity, token_scores
from simulator.workload.uneven_group import NicCopies, nic_copies

Floats = NDArray[np.float64]

PURPOSE_ROUTING, PURPOSE_BALANCING, PURPOSE_MAXIMUM = 11, 12, 13
SEQUENCES, TOKENS = 256, 32
"""Sequences and tokens of each that are simulated."""
LONE_TOKENS = 8_192
"""Tokens of sequences of their own from which mean loads are taken."""
MICRO_BATCHES = 512
"""Micro-batches put together from the simulated sequences for the maximum over the group."""


@dataclass(frozen=True, slots=True)
class RoutingStatistics:
    """What a router does to an expert group. Loads are over the mean load.

    noise_cv, node_noise_cv: coefficient of variation of a rank's and of a node's load over micro-batches.
    persistent_cv, node_persistent_cv: of what remains in the mean over micro-batches, over the ranks and nodes of a group.
    persistent_expert_cv: the same over experts. Of a group whose nodes differ in members the ranks stand for the nodes.
    nodes_per_token, ranks_per_token: distinct nodes and ranks that hold a token's experts, its own counted if among them.
    max_over_mean_mean, node_max_over_mean_mean: of the fullest rank and node in a micro-batch, both terms together; mean.
    expert_between, expert_inside: variances of an expert's load as in `Spread`.
    copies: over a NIC, of a group whose nodes differ in members; else None.
    response, batch_cv: as of `balancing.tremor_cv`, where a learned bias balances; else 0.
    """

    noise_cv: float
    persistent_cv: float
    nodes_per_token: float
    ranks_per_token: float
    max_over_mean_mean: float
    node_noise_cv: float
    node_persistent_cv: float
    node_max_over_mean_mean: float
    persistent_expert_cv: float
    copies: NicCopies | None = None
    expert_between: float = 0.0
    expert_inside: float = 0.0
    response: float = 0.0
    batch_cv: float = 0.0

    def expert_variance(self, sequences: int, seq_len: int) -> float:
        """Of an expert's load in a rank's micro-batch of so many sequences, fresh and persistent, over its mean squared."""
        return (self.expert_between + self.expert_inside / seq_len) / sequences + self.persistent_expert_cv**2


@dataclass(frozen=True, slots=True)
class Spread:
    """Of the loads of places, relative to the mean load: variances between sequences and of one token inside a sequence.

    shares: (sequences, places) simulated load over mean load of each sequence, with its tokens' noise.
    """

    between: float
    inside: float
    shares: Floats

    def variance(self, sequences: int, seq_len: int) -> float:
        """Relative variance of the load of this many sequences of this many tokens."""
        return (self.between + self.inside / seq_len) / sequences

    def against(self, persistent_cv: float) -> Spread:
        """The same for loads over a place's own mean, where the mean loads of places have persistent_cv.

        Hot places vary in proportion: fresh and persistent loads multiply, and so do 1 + their variances.
        """
        factor = 1.0 + persistent_cv**2
        typical = self.shares.mean(axis=0)
        shares = typical + (self.shares - typical) / sqrt(factor)
        return replace(self, between=self.between / factor, inside=self.inside / factor, shares=shares)


@lru_cache(maxsize=256)
def routing_statistics(rule: RoutingRule, seed: int) -> RoutingStatistics:
    """Simulates the rule. The same rule and seed give the same numbers. About 0.5 s for 256 experts, a third where
    tokens were routed alike before.
    """
    if rule.balance == "forced":
        rng = generator(seed, 0, PURPOSE_ROUTING)
        even = token_scores(rule, np.ones((SEQUENCES * TOKENS, rule.num_experts), np.float32), rng)
        reach = _reach(select_experts(even, rule), rule)
        return RoutingStatistics(0.0, 0.0, *reach.mean, 1.0, 0.0, 0.0, 1.0, 0.0, reach.copies)
    routed = _routed(_of_experts_alone(rule), seed)
    chosen = routed.chosen
    experts, ranks, nodes = (spread(chosen, rule, places) for places in (rule.num_experts, rule.ep, rule.load_places))
    expert_cv, response, batch_cv = _persistent(rule, routed, experts)
    held = rule.num_experts // rule.ep
    apart = (rule.num_experts - held) / (rule.num_experts - 1) if rule.num_experts > 1 else 0.0
    persistent = expert_cv * sqrt(apart / held)
    # What makes the ranks of a node hot together in a sequence does so for the popularity of experts too.
    independent = independent_node_cv(1.0, rule.ep, rule.load_places)
    together = sqrt(nodes.between / ranks.between) if ranks.between > 0 else independent
    node_persistent = persistent * min(1.0, max(independent, together))
    ranks, nodes = ranks.against(persistent), nodes.against(node_persistent)
    noise, node_noise = (sqrt(place.variance(rule.sequences, rule.seq_len)) for place in (ranks, nodes))
    load = micro_batch_loads(rule, ranks, nodes, seed)
    if persistent > 0:
        hot = generator(seed, 1, PURPOSE_MAXIMUM)
        load = load * group_loads(hot, persistent, node_persistent, rule.ep, rule.load_places, (len(load),))
        load = load / load.mean(axis=1, keepdims=True)
    fullest = load.max(axis=1)
    reach = _reach(chosen, rule)
    fullest_node = load.reshape(len(load), rule.load_places, -1).mean(axis=2).max(axis=1)
    return RoutingStatistics(
        noise, persistent, *reach.mean, float(fullest.mean()),
        min(node_noise, noise), node_persistent, float(fullest_node.mean()), expert_cv, reach.copies,
        expert_between=experts.between, expert_inside=experts.inside, response=response, batch_cv=batch_cv,
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Routed:
    """The simulated tokens under a rule in its steady state, wherever the experts stand. chosen: each one's experts; response:
    as of `balancing.tremor_cv`, 0 without a learned bias; state: of the random numbers behind all of it.
    """

    pool: Scores
    weights: Scores
    chosen: Experts
    response: float
    state: Any

    def generator(self) -> np.random.Generator:
        """Random numbers that go on where these tokens' ended."""
        rng = generator(0, 0, PURPOSE_ROUTING)
        rng.bit_generator.state = self.state
        return rng


def _of_experts_alone(rule: RoutingRule) -> RoutingRule:
    """The rule of a single rank and sequence: what each token chooses depends on neither."""
    return replace(rule, ep=1, nodes=1, members=(), sequences=1, seq_len=1, batch_sequences=1)


def _is_tremor(rule: RoutingRule) -> bool:
    return rule.balance == "learned" and rule.bias_update_rate > 0


@lru_cache(maxsize=8)
def _routed(rule: RoutingRule, seed: int) -> _Routed:
    """Most of the simulation, the same for expert groups of every size. rule: of experts alone."""
    rng = generator(seed, 0, PURPOSE_ROUTING)
    pool = affinities(rule, SEQUENCES, rng)
    weights, bias = steady_state(rule, pool, seed)
    scores = token_scores(rule, np.repeat(pool * weights, TOKENS, axis=0), rng) + bias
    chosen = select_experts(scores, rule)
    response = load_response(rule, scores, rng) if _is_tremor(rule) else 0.0
    return _Routed(pool, weights, chosen, response, rng.bit_generator.state)


def steady_state(rule: RoutingRule, pool: Scores, seed: int) -> tuple[Scores, Scores]:
    """(popularity, bias) of the experts after the balancing rule has done its work, each (num_experts,)."""
    rng = generator(seed, 0, PURPOSE_BALANCING)
    weights = popularity(rule, rng)
    bias = np.zeros(rule.num_experts, np.float32)
    if rule.popularity_cv > 0 and rule.balance == "learned" and rule.bias_update_rate > 0:
        bias = learned_bias(rule, weights, pool, rng)
    if rule.popularity_cv > 0 and rule.balance == "aux_loss":
        weights = pressed_weights(rule, weights, pool, rng)
    return weights.astype(np.float32), bias


def spread(chosen: Experts, rule: RoutingRule, places: int) -> Spread:
    """Takes the variance of loads over `places` apart; chosen: (SEQUENCES × TOKENS, top_k), sequences in order.

    Analysis of variance: the variance of sequence means less what the tokens inside contribute.
    """
    counts = _counts(chosen, rule, places).reshape(SEQUENCES, TOKENS, places)
    means, mean = counts.mean(axis=1), rule.top_k / places
    inside = float(counts.var(axis=1, ddof=1).mean()) / mean**2
    between = float(means.var(axis=0, ddof=1).mean()) / mean**2 - inside / TOKENS
    return Spread(between=max(0.0, between), inside=inside, shares=means / mean)


def micro_batch_loads(rule: RoutingRule, ranks: Spread, nodes: Spread, seed: int) -> Floats:
    """(MICRO_BATCHES, ep) loads over mean loads of micro-batches of the rule's size, without the persistent part.

    Sequences are drawn from the simulated ones. Their shares hold the noise of the few simulated tokens, so they are drawn
    towards the mean until nodes, and ranks inside nodes, have the variance between sequences; the noise of all tokens is
    added as normal variates.
    """
    rng = generator(seed, 0, PURPOSE_MAXIMUM)
    per_node = rule.ep // rule.load_places
    node_shares = np.repeat(nodes.shares, per_node, axis=1)
    inner_between, inner_inside = ranks.between - nodes.between, ranks.inside - nodes.inside
    typical = ranks.shares.mean(axis=0)
    node_typical = node_shares.mean(axis=0)
    shares = _kept(nodes.between, nodes.inside) * (node_shares - node_typical)
    shares = shares + _kept(inner_between, inner_inside) * (ranks.shares - node_shares - typical + node_typical)
    drawn = rng.multinomial(rule.sequences, np.full(SEQUENCES, 1.0 / SEQUENCES), MICRO_BATCHES)
    load = 1.0 + drawn @ shares / rule.sequences
    token_sd = sqrt(ranks.inside / (rule.seq_len * rule.sequences))
    load = np.maximum(load + token_sd * rng.standard_normal(load.shape), 0.0)
    return np.asarray(load / load.mean(axis=1, keepdims=True))


def _kept(between: float, inside: float) -> float:
    """Factor on simulated deviations that leaves the variance between sequences."""
    total = between + inside / TOKENS
    return sqrt(max(0.0, between) / total) if total > 0 else 0.0


def _persistent(rule: RoutingRule, routed: _Routed, experts: Spread) -> tuple[float, float, float]:
    """Coefficient of variation of the experts' expected loads in a step, and what its tremor follows from under a bias rule.

    Without a bias rule it is the covariance of two halves of fresh tokens: their sampling noise is independent, so it cancels.
    """
    rng = routed.generator()
    if _is_tremor(rule):
        batch_cv = sqrt(experts.variance(rule.batch_sequences, rule.seq_len))
        return tremor_cv(rule, routed.response, batch_cv, rng), routed.response, batch_cv
    if rule.popularity_cv == 0:
        return 0.0, 0.0, 0.0
    fresh = token_scores(rule, lone_tokens(routed.pool, LONE_TOKENS, rng) * routed.weights, rng)
    first, second = (expert_loads(rule, half) - 1.0 for half in np.split(fresh, 2))
    return sqrt(max(0.0, float((first * second).mean()))), 0.0, 0.0


def persistent_ratio(rule: RoutingRule, changed: RoutingRule, found: RoutingStatistics, seed: int) -> float:
    """What persists between experts under another rule over what does under this one, whose statistics are `found`.

    Under a learned bias the tremor alone is followed again, with the same random numbers: response and noise of a batch
    depend on neither rate nor drift, and of the popularity of experts a bias leaves nothing. Else the router is simulated.
    1 where nothing persists.
    """
    if rule.balance == "learned":
        was, now = (_tremor(each, found.response, found.batch_cv, seed) for each in (rule, changed))
    else:
        was, now = found.persistent_cv, routing_statistics(changed, seed).persistent_cv
    return now / was if was > 0 else 1.0


@lru_cache(maxsize=64)
def _tremor(rule: RoutingRule, response: float, batch_cv: float, seed: int) -> float:
    """As `tremor_cv`; several assumptions ask for that of the rule as it is."""
    return tremor_cv(rule, response, batch_cv, generator(seed, 1, PURPOSE_BALANCING))


@dataclass(frozen=True)
class _Reach:
    """Where the simulated tokens go. mean: distinct nodes and ranks of a token; copies: as in `RoutingStatistics`."""

    mean: tuple[float, float]
    copies: NicCopies | None


def _reach(chosen: Experts, rule: RoutingRule) -> _Reach:
    on_node = _counts_at(rule.node_of_expert()[chosen], rule.nodes) > 0
    ranks = float((_counts(chosen, rule, rule.ep) > 0).sum(axis=1).mean())
    copies = nic_copies(rule.members, on_node.mean(axis=0).tolist()) if rule.members else None
    return _Reach((float(on_node.sum(axis=1).mean()), ranks), copies)


def _counts(chosen: Experts, rule: RoutingRule, places: int) -> Floats:
    """(tokens, places) experts that a token has on each place."""
    return _counts_at(chosen // (rule.num_experts // places), places)


def _counts_at(place: Experts, places: int) -> Floats:
    """(tokens, places) choices that a token has on each place. place: (tokens, top_k)."""
    cells = (np.arange(len(place))[:, None] * places + place).reshape(-1)
    return np.bincount(cells, minlength=len(place) * places).reshape(len(place), places).astype(np.float64)
