"""Hashed flows: the fullest uplink by enumeration, more flows are more even, published rates."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from simulator.network.hashing import even_share


def test_eight_flows_on_eight_uplinks() -> None:
    """2.6 on the fullest."""
    assert 1.0 / even_share(1.0, 8) == pytest.approx(2.58, abs=0.01)


def test_against_drawn_hashes() -> None:
    """Flows of 32 NICs placed at random on 32 uplinks: a fixed number of them, which Poisson's law takes as its mean."""
    random = np.random.default_rng(3)
    for flows in (2, 16, 64):
        placed = random.integers(0, 32, (400, 32 * flows))
        fullest = np.mean([np.bincount(each, minlength=32).max() for each in placed])
        assert even_share(float(flows), 32) == pytest.approx(flows / fullest, rel=0.03)


def test_more_flows_are_more_even_and_more_uplinks_less() -> None:
    shares = [even_share(float(flows), 32) for flows in (1, 2, 4, 8, 16, 64, 499, 501, 5000)]
    assert shares == sorted(shares) and shares[0] < 0.3 and 0.95 < shares[-1] < 1.0
    assert all(even_share(f, 8) > even_share(f, 64) for f, _ in product((1.0, 8.0, 64.0), (0,)))
    assert even_share(8.0, 1) == even_share(0.0, 32) == 1.0
