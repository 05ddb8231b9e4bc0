"""What a dispatch brings a rank: distinct tokens, fewer than rows, by closed forms and token by token."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from simulator.workload.expert_load import LoadedLinks, LoadModel, draw_loads, token_law

GROUPS = [(8, 2, 8), (128, 8, 8), (128, 8, 64), (64, 6, 16)]


def choices(num_experts: int, top_k: int, weights: np.ndarray, tokens: int) -> np.ndarray:
    """(tokens, top_k) experts without repetition, in proportion to weights (Gumbel's trick)."""
    rng = np.random.default_rng(1)
    scores = np.log(weights) + rng.gumbel(size=(tokens, num_experts))
    return np.argpartition(scores, num_experts - top_k, axis=1)[:, num_experts - top_k :]


@pytest.mark.parametrize(("num_experts", "top_k", "ranks"), GROUPS)
@pytest.mark.parametrize("spread", [0.0, 0.4])
def test_distinct_tokens_equal_a_count(num_experts: int, top_k: int, ranks: int, spread: float) -> None:
    """All experts of a rank hot or cold together; the law knows the rows of a rank and no more."""
    held = num_experts // ranks
    weights = np.repeat(np.random.default_rng(2).gamma(1 / max(spread, 1e-6) ** 2, size=ranks), held)
    chosen = choices(num_experts, top_k, weights, 30_000) // held
    even = choices(num_experts, top_k, np.ones(num_experts), 30_000) // held
    per_token = float(np.mean([len(set(row)) for row in even.tolist()]))
    rows = np.bincount(chosen.ravel(), minlength=ranks) / chosen.size * ranks
    distinct = np.zeros(ranks)
    for row in chosen.tolist():
        distinct[list(set(row))] += 1
    found = token_law(num_experts, top_k, ranks, per_token).tokens(rows)
    assert found == pytest.approx(distinct / distinct.mean(), rel=0.04)


def test_one_expert_a_rank_has_as_many_tokens_as_rows() -> None:
    rows = np.array([0.4, 1.6, 1.0, 1.0, 0.7, 1.3, 1.2, 0.8])
    assert token_law(8, 2, 8, 2.0).tokens(rows) == pytest.approx(rows, rel=1e-12)


def test_a_rank_that_every_token_visits_cannot_have_more() -> None:
    assert token_law(16, 12, 2, 2.0).tokens(np.array([0.9, 1.1])) == pytest.approx([1.0, 1.0], abs=1e-4)


LOAD = LoadModel(0.4, 0.2, ranks=8, nodes=2, tokens=token_law(128, 8, 8, 5.3))


def test_time_follows_nodes_where_nics_bind_and_tokens_where_links_do() -> None:
    """Dispatch: what comes to the lane's node, or to its rank. Combine: the fullest of them sends last."""
    nic, link = LoadedLinks(1.0, 0.0), LoadedLinks(0.0, 1.0)
    by_nic = draw_loads(replace(LOAD, dispatch=nic, combine=nic), 2, 3, 0, 0)
    by_link = draw_loads(replace(LOAD, dispatch=link, combine=link), 2, 3, 0, 0)
    rows = by_link[:, :, 0]
    assert np.array_equal(rows, by_nic[:, :, 0])
    node = np.repeat(rows.reshape(2, 3, 2, 4).mean(axis=-1), 4, axis=-1)
    assert by_nic[:, :, 1] == pytest.approx(node)
    assert LOAD.tokens is not None
    tokens = LOAD.tokens.tokens(rows)
    assert np.array_equal(by_link[:, :, 1], tokens)
    assert by_link[:, :, 2] == pytest.approx(np.repeat(tokens.max(axis=-1, keepdims=True), 8, axis=-1))
    assert tokens.std() < rows.std()


def test_the_slower_of_nic_and_link_decides_rank_by_rank() -> None:
    mixed = draw_loads(replace(LOAD, dispatch=LoadedLinks(1.0, 0.8)), 2, 3, 0, 0)
    assert LOAD.tokens is not None
    rows = mixed[:, :, 0]
    node = np.repeat(rows.reshape(2, 3, 2, 4).mean(axis=-1), 4, axis=-1)
    assert mixed[:, :, 1] == pytest.approx(np.maximum(node, 0.8 * LOAD.tokens.tokens(rows)))
    assert (mixed[:, :, 1] > node).any() and (mixed[:, :, 1] == node).any()


def test_latency_does_not_grow_with_load() -> None:
    half, whole = (
        draw_loads(replace(LOAD, dispatch=LoadedLinks(0.0, 1.0, fixed)), 2, 3, 0, 0)[:, :, 1] for fixed in (0.5, 0.0)
    )
    assert half - 1.0 == pytest.approx((whole - 1.0) / 2)
