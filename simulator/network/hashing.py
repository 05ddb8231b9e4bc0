"""Flows that keep a hashed path (ECMP): how full the fullest uplink is where the mean of all is known."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final

RARE: Final = 1e-12
"""Of the fullest link's distribution: what is left out."""
MANY: Final = 500.0
"""Flows an uplink from which on what the fullest has more than the mean goes with the square root of it."""


@lru_cache(maxsize=1024)
def even_share(flows: float, uplinks: int) -> float:
    """Mean over expected largest load of so many uplinks, on each of which `flows` equal flows lie on average, at random: the
    rate that a collective keeps, which waits for its fullest link. In (0, 1].

    Loads are Poisson's, so that E[max] = sum over k of 1 - P(load <= k)^uplinks. 8 flows on 8 uplinks: 2.6 on the fullest.
    """
    if flows <= 0.0 or uplinks <= 1:
        return 1.0
    if flows > MANY:
        return 1.0 / (1.0 + (1.0 / even_share(MANY, uplinks) - 1.0) * math.sqrt(MANY / flows))
    at = below = math.exp(-flows)
    largest, count = 0.0, 0
    while True:
        left = 1.0 - math.pow(min(1.0, below), uplinks)
        largest += left
        if count > flows and left < RARE:
            return min(1.0, flows / largest)
        count += 1
        at *= flows / count
        below += at
