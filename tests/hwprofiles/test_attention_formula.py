"""The attention formula by hand: a fixed time, and a rate that short sequences do not reach."""

from __future__ import annotations

import pytest

from hwprofiles.kernels.attention import AttentionConstants


@pytest.mark.parametrize(("seq", "slower"), [(100, 1 + 680 / 100), (680, 2.0), (68_000, 1.01)])
def test_short_sequences_are_slower_a_flop(seq: int, slower: float) -> None:
    constants = AttentionConstants(t0_s=20e-6, c_tokens=680.0, rate_share=0.5)
    assert constants.seconds(1e12, seq, 1e15) == pytest.approx(20e-6 + 1e12 * slower / (0.5 * 1e15), rel=1e-12)
