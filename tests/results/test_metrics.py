"""Rates follow from throughput, and equal the published ones."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.results.metrics import mfu, tflops, tokens_per_s_per_gpu
from simulator.results.rates import FlopPerToken

FLOP = FlopPerToken(causal=250.45e9, noncausal=281.15e9)
"""DeepSeek-V3 at 4K, in tests/workload/test_model_counts.py."""


def test_tflops_and_mfu_of_the_published_throughput() -> None:
    """272.80 B tokens a day on 2,048 H800: 385 and 432 TFLOPS, 38.94 and 43.73 % (arXiv:2505.09343, table 4).

    The paper's own count a token is 0.3 % below ours, and so are its rates.
    """
    rate = 272.80e9 / 86400 / 2048
    assert tflops(FLOP, rate).causal == pytest.approx(385, rel=0.005)
    assert tflops(FLOP, rate).noncausal == pytest.approx(432, rel=0.005)
    assert mfu(FLOP, rate, 989e12).bf16_dense_causal == pytest.approx(0.3894, rel=0.005)
    assert mfu(FLOP, rate, 989e12).bf16_dense_noncausal == pytest.approx(0.4373, rel=0.005)


@given(tokens=st.integers(1, 10**9), step_s=st.floats(1e-3, 1e3), num_gpus=st.integers(1, 10**5))
def test_rates_scale_with_throughput(tokens: int, step_s: float, num_gpus: int) -> None:
    one = tokens_per_s_per_gpu(tokens, step_s, num_gpus)
    assert one * step_s * num_gpus == pytest.approx(tokens)
    assert tflops(FLOP, 2 * one).causal == pytest.approx(2 * tflops(FLOP, one).causal)
    assert mfu(FLOP, one, 1e15).bf16_dense_causal == pytest.approx(tflops(FLOP, one).causal / 1e3)
