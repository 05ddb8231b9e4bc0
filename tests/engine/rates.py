"""Max-min fair rates of flows that share links, as the engine's compiled `fill` gives them.

A flow's rate is max-min fair if it cannot grow without a smaller or equal one shrinking: every flow that its own demand does
not hold back has a bottleneck, a full link on which no flow is faster (Bertsekas and Gallager, Data Networks, section 6.5.2).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simulator.engine.compiled_links import fill

FloatArray = NDArray[np.float64]


def max_min_rates(capacity: ArrayLike, uses: ArrayLike, demand: ArrayLike | None = None) -> FloatArray:
    """Rates of the flows by progressive filling: all grow together until a link is full, its flows stop, the others go
    on.

    capacity (links,): bytes/s, > 0. uses (flows, links): which share of a flow's bytes crosses a link, 0 to 1. demand
    (flows,): a flow's own upper bound in bytes/s, inf where none (then it must cross a link). Returns (flows,) in bytes/s.
    """
    links, on_link = np.ascontiguousarray(capacity, dtype=np.float64), np.ascontiguousarray(uses, dtype=np.float64)
    num_flows = on_link.shape[0]
    bound = np.full(num_flows, np.inf) if demand is None else np.array(demand, dtype=np.float64)
    rates = np.zeros(num_flows)
    everything = np.tile(np.arange(len(links), dtype=np.int32), (num_flows, 1))
    fill(links.copy(), np.zeros(len(links)), everything, on_link, bound, num_flows, rates)
    return rates
