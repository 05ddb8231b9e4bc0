"""Where a token's experts are: closed forms for random scores under node-limited routing.

The rule (DeepSeek-V3 report 2.1.2): a token may use at most M of the nodes over which the experts are spread, and its k
experts are the best of those on its M nodes. With scores independent of the node, the M nodes are a uniform choice and the
k experts a uniform draw without replacement from theirs.
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
