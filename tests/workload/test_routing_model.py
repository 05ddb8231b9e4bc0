"""A simulated router must obey what is known without simulating: conservation, the group limit, closed forms of
independent scores, the sign rule's effect, and the gamma law that the draws of a step use."""

from __future__ import annotations

from dataclasses import replace
from math import inf, sqrt

import numpy as np
import pytest

from simulator.draws import generator
from simulator.errors import InputError
from simulator.workload.balancing import expert_loads, load_response, tremor_cv
from simulator.workload.expert_load import LoadModel, draw_loads, independent_node_cv, noise_cv
from simulator.workload.group_law import cv_of_maximum, expected_maximum
from simulator.workload.routing_model import routing_statistics, spread, steady_state
from simulator.workload.routing_rule import RoutingRule, grouping, select_experts
from simulator.workload.routing_scores import affinities, lone_tokens, popularity, token_scores
from tests.workload import blind_choice as routing

V3 = RoutingRule(
    num_experts=256, top_k=8, ep=64, nodes=8, sequences=64, seq_len=4096, groups=8, max_groups=4, batch_sequences=15360,
    concentration=156, popularity_cv=0.8, popularity_drift_cv=0.008, aux_loss_pressure=2.0,
)  # fmt: skip
SMALL = RoutingRule(num_experts=32, top_k=4, ep=8, nodes=4, sequences=8, seq_len=256, concentration=40)
TRACE_ROWS = (31_104, 30_976, 36_864, 31_104, 34_688, 32_512, 32_896, 28_416)
"""Rows of one of 64 ranks in the eight passes of deepseek-ai/profile-data train.json (multiples of 128: padded)."""


def _mean(rule: RoutingRule, name: str, seeds: int = 4) -> float:
    return float(np.mean([getattr(routing_statistics(rule, seed), name) for seed in range(seeds)]))


def _scores(rule: RoutingRule, tokens: int, seed: int = 0) -> np.ndarray:
    rng = generator(seed, 0, 99)
    return token_scores(rule, lone_tokens(affinities(rule, 256, rng), tokens, rng), rng)


# ---- selection -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rule", [V3, SMALL, replace(V3, groups=1, max_groups=1), replace(V3, group_top=1, score="softmax")]
)
def test_every_token_goes_to_top_k_different_experts(rule: RoutingRule) -> None:
    chosen = select_experts(_scores(rule, 500), rule)
    assert chosen.shape == (500, rule.top_k)
    assert all(len(set(row)) == rule.top_k for row in chosen.tolist())
    loads = expert_loads(rule, _scores(rule, 500)) * 500 * rule.top_k / rule.num_experts
    assert round(loads.sum()) == 500 * rule.top_k


def test_selection_is_deepseek_v3s_written_out() -> None:
    scores = _scores(V3, 40)
    bias = np.linspace(-0.1, 0.1, 256, dtype=np.float32)
    chosen = select_experts(scores + bias, V3)
    for token, row in zip(scores + bias, chosen, strict=True):
        groups = token.reshape(8, 32)
        best = sorted(range(8), key=lambda g: -sum(sorted(groups[g])[-2:]))[:4]
        inside = [e for g in best for e in range(32 * g, 32 * g + 32)]
        assert set(row) == set(sorted(inside, key=lambda e: -token[e])[:8])


@pytest.mark.parametrize("max_groups", [1, 2, 4, 7])
def test_a_token_reaches_at_most_max_groups_nodes(max_groups: int) -> None:
    rule = replace(V3, max_groups=max_groups)
    nodes = select_experts(_scores(rule, 1000), rule) // 32
    assert max(len(set(row)) for row in nodes.tolist()) <= max_groups
    assert routing_statistics(rule, 0).nodes_per_token <= max_groups


def test_grouping_follows_the_plan_only_where_it_limits_further() -> None:
    assert grouping(8, 4, 8, 4) == (8, 4)
    assert grouping(8, 4, 4, 4) == (8, 4)  # four nodes: the model's own rule remains
    assert grouping(8, 4, 16, 4) == (16, 4)
    assert grouping(8, 4, 8, 8) == (1, 1)  # all nodes, more than the router's groups: no limit
    assert grouping(1, 1, 8, None) == (1, 1)


@pytest.mark.parametrize(
    "bad",
    [
        {"ep": 3}, {"nodes": 5}, {"groups": 5}, {"max_groups": 9}, {"top_k": 257}, {"top_k": 0}, {"sequences": 0},
        {"concentration": 0.0}, {"popularity_cv": -1.0}, {"bias_update_rate": inf},
    ],
)  # fmt: skip
def test_impossible_layouts_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(InputError):
        replace(V3, **bad)


# ---- closed forms ----------------------------------------------------------------------------------------------------


def test_independent_scores_without_limit_reproduce_the_closed_forms() -> None:
    rule = replace(V3, groups=1, max_groups=1, concentration=inf, popularity_cv=0.0, popularity_drift_cv=0.0)
    assert _mean(rule, "nodes_per_token") == pytest.approx(routing.nodes_per_token(256, 8, 8, None), rel=2e-3)
    assert _mean(rule, "ranks_per_token") == pytest.approx(routing.ranks_per_token(256, 8, 8, None, 64), rel=2e-3)


def test_groups_chosen_blindly_reproduce_the_closed_form_and_groups_chosen_by_score_reach_more() -> None:
    rng = generator(0, 0, 99)
    rule = replace(V3, groups=1, max_groups=1, concentration=inf)
    open_groups = np.argsort(rng.random((8192, 8)), axis=1)[:, :4]
    scores = _scores(rule, 8192)
    closed = np.ones((8192, 8), bool)
    np.put_along_axis(closed, open_groups, False, axis=1)
    scores[np.repeat(closed, 32, axis=1)] = -1.0
    nodes = select_experts(scores, rule) // 32
    blind = np.mean([len(set(row)) for row in nodes.tolist()])
    closed_form = routing.nodes_per_token(256, 8, 8, 4)
    assert blind == pytest.approx(closed_form, rel=5e-3)
    # A group is taken because it holds high scores, so nearly every group taken is used.
    for score in ("sigmoid", "softmax"):
        assert closed_form + 0.2 < _mean(replace(V3, score=score), "nodes_per_token", 1) < 4.0


def test_infinite_concentration_gives_the_noise_of_independent_tokens() -> None:
    rule = replace(SMALL, concentration=inf, sequences=1, seq_len=64)
    # Draws without replacement: the share of a rank with h of E experts has (E - k) / (E - 1) of the multinomial variance.
    multinomial = noise_cv(8, 1, 64 * 4, inf)
    assert _mean(rule, "noise_cv") == pytest.approx(multinomial * sqrt((32 - 4) / 31), rel=0.02)


@pytest.mark.parametrize("concentration", [49.0, 156.0, 320.0])
def test_one_choice_a_token_is_dirichlet_multinomial(concentration: float) -> None:
    rule = replace(V3, top_k=1, groups=1, max_groups=1, concentration=concentration, popularity_cv=0.0)
    assert _mean(rule, "noise_cv", 6) == pytest.approx(noise_cv(64, 64, 4096, concentration), rel=0.05)


def test_simulated_tokens_stand_for_the_others() -> None:
    """Micro-batches routed whole have the variance that was put together from 32 tokens a sequence."""
    rng = generator(3, 0, 98)
    loads = np.array([_whole_micro_batch(SMALL, rng) for _ in range(400)])
    assert loads.std(axis=0).mean() == pytest.approx(_mean(SMALL, "noise_cv"), rel=0.06)


def _whole_micro_batch(rule: RoutingRule, rng: np.random.Generator) -> np.ndarray:
    weights = np.repeat(affinities(rule, rule.sequences, rng), rule.seq_len, axis=0)
    return expert_loads(rule, token_scores(rule, weights, rng)).reshape(rule.ep, -1).mean(axis=1)


# ---- balancing -------------------------------------------------------------------------------------------------------


def test_forced_balance_is_even_exactly() -> None:
    stats = routing_statistics(replace(V3, balance="forced"), 0)
    assert (stats.noise_cv, stats.persistent_cv, stats.max_over_mean_mean, stats.node_max_over_mean_mean) == (
        0,
        0,
        1,
        1,
    )
    assert 3.9 < stats.nodes_per_token < 4


def test_bias_beats_auxiliary_loss_beats_nothing() -> None:
    natural, pressed, learned = (
        routing_statistics(replace(V3, balance=balance), 0) for balance in ("natural", "aux_loss", "learned")
    )
    assert learned.persistent_cv < pressed.persistent_cv / 4 < natural.persistent_cv / 8
    assert 1 < learned.max_over_mean_mean < pressed.max_over_mean_mean < natural.max_over_mean_mean
    # It balances over a batch, not over a micro-batch.
    assert learned.noise_cv == pytest.approx(pressed.noise_cv, rel=0.1)


@pytest.mark.parametrize("rule", [V3, replace(V3, score="softmax", group_top=1), replace(SMALL, popularity_cv=1.0)])
def test_the_sign_rule_settles_where_mean_loads_are_even(rule: RoutingRule) -> None:
    rng = generator(5, 0, 97)
    pool = affinities(rule, 256, rng)
    weights, bias = steady_state(rule, pool, 5)
    scores = token_scores(rule, lone_tokens(pool, 16384, rng) * weights, rng)
    before, after = expert_loads(rule, scores), expert_loads(rule, scores + bias)
    assert before.std() > 0.5
    assert after.std() < before.std() / 4


def test_popularity_has_the_spread_asked_for() -> None:
    weights = popularity(V3, generator(0, 0, 96))
    assert weights.mean() == pytest.approx(1)
    assert weights.std() == pytest.approx(0.8, rel=0.06)


def test_tremor_is_that_of_the_sign_rule_followed_token_by_token() -> None:
    rule = RoutingRule(
        num_experts=16, top_k=2, ep=4, nodes=2, sequences=4, seq_len=64, batch_sequences=64, concentration=30,
        bias_update_rate=0.02,
    )  # fmt: skip
    rng = generator(1, 0, 95)
    judge = token_scores(rule, lone_tokens(affinities(rule, 4096, rng), 20_000, rng), rng)
    bias, variances = np.zeros(16, np.float32), []
    for step in range(240):
        weights = np.repeat(affinities(rule, 64, rng), 64, axis=0)
        load = expert_loads(rule, token_scores(rule, weights, rng) + bias)
        bias = bias - np.float32(0.02) * np.sign(load - 1.0).astype(np.float32)
        if step > 40 and step % 4 == 0:
            first, second = (expert_loads(rule, half + bias) - 1.0 for half in np.split(judge, 2))
            variances.append((first * second).mean())
    chosen = select_experts(token_scores(rule, np.repeat(affinities(rule, 256, rng), 32, axis=0), rng), rule)
    batch_cv = sqrt(spread(chosen, rule, 16).variance(64, 64))
    expected = tremor_cv(rule, load_response(rule, judge, rng), batch_cv, rng)
    assert sqrt(np.mean(variances)) == pytest.approx(expected, rel=0.2)


def test_drift_and_update_rate_pull_the_tremor_both_ways() -> None:
    still = replace(V3, popularity_cv=0.0, popularity_drift_cv=0.0)
    rates = [_mean(replace(still, bias_update_rate=rate), "persistent_cv", 1) for rate in (0.0, 0.0003, 0.001, 0.01)]
    assert rates == sorted(rates) and rates[0] == 0
    moving = replace(still, popularity_drift_cv=0.02)
    assert _mean(moving, "persistent_cv", 1) > _mean(replace(moving, bias_update_rate=0.005), "persistent_cv", 1)


# ---- laws of the draws -----------------------------------------------------------------------------------------------


def test_gamma_law_reproduces_the_simulated_maximum_over_the_group() -> None:
    """Quantiles of the fullest rank and node: whole micro-batches against draws from the statistics."""
    rng = generator(7, 0, 94)
    rule = replace(SMALL, groups=4, max_groups=2)
    simulated = np.array([_whole_micro_batch(rule, rng) for _ in range(500)])
    stats = routing_statistics(rule, 0)
    model = LoadModel(stats.noise_cv, 0.0, 8, 4, stats.node_noise_cv)
    drawn = draw_loads(model, 1, 4000, 0, 0)[0]
    node = simulated.reshape(500, 4, 2).mean(axis=2)
    for quantile, tolerance in ((0.1, 0.02), (0.5, 0.02), (0.9, 0.04)):
        of_ranks = np.quantile(simulated.max(axis=1), quantile), np.quantile(drawn[:, 0].max(axis=1), quantile)
        of_nodes = np.quantile(node.max(axis=1), quantile), np.quantile(drawn[:, 2, 0], quantile)
        assert of_ranks[0] == pytest.approx(of_ranks[1], rel=tolerance)
        assert of_nodes[0] == pytest.approx(of_nodes[1], rel=tolerance)


@pytest.mark.parametrize("balance", ["learned", "aux_loss", "natural"])
def test_draws_have_the_maximum_that_the_statistics_say(balance: str) -> None:
    stats = routing_statistics(replace(V3, balance=balance), 0)
    model = LoadModel(stats.noise_cv, stats.persistent_cv, 64, 8, stats.node_noise_cv, stats.node_persistent_cv)
    drawn = draw_loads(model, 200, 4, 0, 0)
    assert np.allclose(drawn[:, :, 0].mean(axis=-1), 1)
    assert drawn[:, :, 0].max(axis=-1).mean() == pytest.approx(stats.max_over_mean_mean, rel=0.03)
    assert drawn[:, :, 2, 0].mean() == pytest.approx(stats.node_max_over_mean_mean, rel=0.02)


@pytest.mark.parametrize(("cv", "node_cv"), [(0.08, None), (0.08, 0.033), (0.5, None), (0.5, 0.45)])
def test_draws_are_exact_in_the_variance_of_ranks_and_nodes(cv: float, node_cv: float | None) -> None:
    drawn = draw_loads(LoadModel(cv, 0.0, 64, 8, node_cv), 1, 20_000, 0, 0)[0]
    assert drawn[:, 0].var(axis=1).mean() == pytest.approx(cv**2, rel=0.03)
    expected = independent_node_cv(cv, 64, 8) if node_cv is None else node_cv
    assert drawn[:, 1].var(axis=1).mean() == pytest.approx(expected**2, rel=0.04)
    assert np.array_equal(drawn[:, 2, 0], drawn[:, 1].max(axis=1))


def test_ranks_that_are_nodes_and_a_lone_rank() -> None:
    drawn = draw_loads(LoadModel(0.3, 0.0, 8, 8, 0.1), 1, 5000, 0, 0)[0]
    assert drawn[:, 0].var(axis=1).mean() == pytest.approx(0.09, rel=0.05)
    assert np.array_equal(drawn[:, 0], drawn[:, 1])
    assert expected_maximum(0.0, 1) == 1 and cv_of_maximum(1.0, 1) == 0


@pytest.mark.parametrize("places", [2, 8, 64])
@pytest.mark.parametrize("cv", [0.01, 0.08, 0.5, 0.95])
def test_expected_maximum_of_the_gamma_law(cv: float, places: int) -> None:
    drawn = draw_loads(LoadModel(cv, 0.0, places, 1), 1, 10_000, 0, 0)[0, :, 0]
    assert expected_maximum(cv, places) - 1 == pytest.approx(drawn.max(axis=1).mean() - 1, rel=0.04)
    assert cv_of_maximum(expected_maximum(cv, places), places) == pytest.approx(cv, rel=1e-6)


def test_a_given_imbalance_is_solved_for_or_refused() -> None:
    assert cv_of_maximum(1.0, 64) == 0
    drawn = draw_loads(LoadModel(cv_of_maximum(1.5, 64), 0.0, 64, 8), 1, 5000, 0, 0)[0, :, 0]
    assert drawn.max(axis=1).mean() == pytest.approx(1.5, rel=0.01)
    for bad in (0.9, 40.0):
        with pytest.raises(InputError, match="load_imbalance"):
            cv_of_maximum(bad, 64)


# ---- what was published ----------------------------------------------------------------------------------------------


def test_the_published_traces_rows_are_a_likely_draw() -> None:
    """The rows of one rank spread as simulated (0.080 against 0.078), and the node's ranks are hot together."""
    rows = np.array(TRACE_ROWS)
    assert rows.std(ddof=1) / rows.mean() == pytest.approx(0.080, abs=0.001)
    stats = routing_statistics(V3, 0)
    assert _mean(V3, "noise_cv") == pytest.approx(0.079, rel=0.04)
    # Each of the rank's 4 experts is padded to 128 rows, by 63.5 on average.
    deviation = (rows.mean() - 4 * 63.5) / 32_768 - 1
    assert abs(deviation) < 2 * stats.noise_cv / sqrt(len(rows))
    assert stats.node_noise_cv > 1.15 * independent_node_cv(stats.noise_cv, 64, 8)


def test_same_rule_and_seed_same_numbers() -> None:
    first = routing_statistics(V3, 5)
    routing_statistics.cache_clear()
    assert routing_statistics(replace(V3), 5) == first
    assert routing_statistics(V3, 6) != first
