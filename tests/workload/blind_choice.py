"""Closed forms for a token that takes its nodes blindly: M of them at random, then k experts at random on these.

A router does not choose blindly (it ranks groups by their best scores), so that its tokens reach nearly all M nodes; the closed
forms check the simulated router where its scores say nothing about a group.
"""

from __future__ import annotations

from math import comb

from simulator.errors import InputError


def expected_distinct(places: int, per_place: int, draws: int) -> float:
    """Expected number of distinct places hit by `draws` draws without replacement from places × per_place items.

    Raises InputError if there are fewer items than draws.
    """
    items = places * per_place
    if draws > items:
        raise InputError(f"a token cannot choose {draws} of {items} experts; raise max_nodes_per_token or lower top_k")
    return places * (1.0 - comb(items - per_place, draws) / comb(items, draws))


def nodes_per_token(num_experts: int, top_k: int, nodes: int, max_nodes: int | None) -> float:
    """Expected distinct destination nodes of a token, its own node counted if it is one of them."""
    limit = nodes if max_nodes is None else min(max_nodes, nodes)
    return expected_distinct(limit, num_experts // nodes, top_k)


def ranks_per_token(num_experts: int, top_k: int, nodes: int, max_nodes: int | None, ep: int) -> float:
    """Expected distinct destination GPUs of a token within the nodes it may use."""
    limit = nodes if max_nodes is None else min(max_nodes, nodes)
    return expected_distinct(limit * (ep // nodes), num_experts // ep, top_k)
