"""Max-min fair rates of flows that share links.

A flow's rate is max-min fair if it cannot grow without a smaller or equal one shrinking: every flow that its own demand does
not hold back has a bottleneck, a full link on which no flow is faster (Bertsekas and Gallager, Data Networks, section 6.5.2).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]


def max_min_rates(capacity: ArrayLike, uses: ArrayLike, demand: ArrayLike | None = None) -> FloatArray:
    """Rates of the flows by progressive filling: all grow together until a link is full, its flows stop, the others go
    on.

    capacity (links,): bytes/s, > 0. uses (flows, links): which share of a flow's bytes crosses a link, 0 to 1. demand
    (flows,): a flow's own upper bound in bytes/s, inf where none (then it must cross a link). Returns (flows,) in bytes/s.
    Raises ValueError for wrong shapes, a capacity or demand that is not positive, or a flow that nothing bounds.
    """
    from simulator.engine.compiled_links import fill

    links, on_link = np.ascontiguousarray(capacity, dtype=np.float64), np.ascontiguousarray(uses, dtype=np.float64)
    num_flows = on_link.shape[0] if on_link.ndim == 2 else -1
    bound = np.full(max(num_flows, 0), np.inf) if demand is None else np.array(demand, dtype=np.float64)
    _check(links, on_link, bound)
    rates = np.zeros(num_flows)
    everything = np.tile(np.arange(len(links), dtype=np.int32), (num_flows, 1))
    fill(links.copy(), np.zeros(len(links)), everything, on_link, bound, num_flows, rates)
    return rates


def _check(links: FloatArray, on_link: FloatArray, bound: FloatArray) -> None:
    if on_link.ndim != 2 or on_link.shape[1] != len(links) or len(bound) != on_link.shape[0]:
        raise ValueError(f"shapes: capacity {links.shape}, uses {on_link.shape}, demand {bound.shape}")
    if not (links > 0.0).all() or np.isinf(links).any() or not (bound > 0.0).all():
        raise ValueError("capacities must be positive and finite, demands positive")
    if not ((on_link >= 0.0) & (on_link <= 1.0)).all():
        raise ValueError("shares of a flow's bytes must lie between 0 and 1")
    if (np.isinf(bound) & ~on_link.any(axis=1)).any():
        raise ValueError("a flow that crosses no link needs a demand")
