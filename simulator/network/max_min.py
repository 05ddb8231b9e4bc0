"""Max-min fair rates of flows that share links, and how long concurrent flows take at such rates.

A flow's rate is max-min fair if it cannot grow without a smaller or equal one shrinking: every flow has a bottleneck, a
full link on which no flow is faster (Bertsekas and Gallager, Data Networks, section 6.5.2).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


def max_min_rates(capacity: ArrayLike, uses: ArrayLike, demand: ArrayLike | None = None) -> FloatArray:
    """Rates of the flows by progressive filling: all grow together until a link is full, its flows stop, the others go
    on.

    capacity (links,): bytes/s, > 0. uses (flows, links): whether a flow crosses a link. demand (flows,): a flow's own
    upper bound in bytes/s, inf where none (then it must cross a link). Returns (flows,) in bytes/s.
    Raises ValueError for wrong shapes, a capacity or demand that is not positive, or a flow that nothing bounds.
    """
    links = np.asarray(capacity, dtype=np.float64)
    on_link = np.asarray(uses, dtype=np.bool_)
    num_flows = on_link.shape[0] if on_link.ndim == 2 else -1
    bound = np.full(max(num_flows, 0), np.inf) if demand is None else np.asarray(demand, dtype=np.float64)
    _check(links, on_link, bound)
    rates = np.zeros(num_flows)
    active = np.ones(num_flows, dtype=np.bool_)
    while active.any():
        count = on_link[active].sum(axis=0)
        left = links - rates[~active] @ on_link[~active]
        share = np.where(count > 0, left / np.maximum(count, 1), np.inf)
        level = min(share.min(initial=np.inf), bound[active].min())
        stops = active & ((on_link & (share <= level)).any(axis=1) | (bound <= level))
        rates[stops] = level
        active &= ~stops
    return rates


def finish_seconds(size_bytes: ArrayLike, capacity: ArrayLike, uses: ArrayLike) -> FloatArray:
    """When each of several flows ends that start together and always run at max-min fair rates, in seconds.

    size_bytes (flows,): >= 0; capacity and uses as in max_min_rates. Rates are refilled whenever a flow ends.
    """
    on_link = np.asarray(uses, dtype=np.bool_)
    left = np.array(size_bytes, dtype=np.float64)
    finish = np.zeros(len(left))
    active = left > 0.0
    now = 0.0
    while active.any():
        rates = max_min_rates(capacity, on_link[active])
        remaining = left[active] / rates
        step = float(remaining.min())
        now += step
        left[active] -= rates * step
        ended = np.flatnonzero(active)[remaining <= step]
        finish[ended] = now
        active[ended] = False
    return finish


def _check(links: FloatArray, on_link: BoolArray, bound: FloatArray) -> None:
    if on_link.ndim != 2 or on_link.shape[1] != len(links) or len(bound) != on_link.shape[0]:
        raise ValueError(f"shapes: capacity {links.shape}, uses {on_link.shape}, demand {bound.shape}")
    if not (links > 0.0).all() or np.isinf(links).any() or not (bound > 0.0).all():
        raise ValueError("capacities must be positive and finite, demands positive")
    if (np.isinf(bound) & ~on_link.any(axis=1)).any():
        raise ValueError("a flow that crosses no link needs a demand")
