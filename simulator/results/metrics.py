"""Rates that follow from the step time: tokens, model FLOP, and their share of the peak."""

from __future__ import annotations

from hwprofiles.units import TERA
from simulator.results.rates import FlopPerToken, Mfu, Tflops


def tflops(flop_per_token: FlopPerToken, tokens_per_s_per_gpu: float) -> Tflops:
    """Model TFLOP/s of one GPU."""
    rate, attended = tokens_per_s_per_gpu / TERA, flop_per_token.attended
    return Tflops(
        causal=flop_per_token.causal * rate,
        noncausal=flop_per_token.noncausal * rate,
        attended=None if attended is None else attended * rate,
    )


def mfu(flop_per_token: FlopPerToken, tokens_per_s_per_gpu: float, bf16_dense_flop_per_s: float) -> Mfu:
    """Model FLOP/s of one GPU over its dense BF16 peak (the GPU file's), whatever precision the step computes in."""
    share, attended = tokens_per_s_per_gpu / bf16_dense_flop_per_s, flop_per_token.attended
    return Mfu(
        bf16_dense_causal=flop_per_token.causal * share,
        bf16_dense_noncausal=flop_per_token.noncausal * share,
        bf16_dense_attended=None if attended is None else attended * share,
    )


def tokens_per_s_per_gpu(tokens_per_step: int, step_s: float, num_gpus: int) -> float:
    """Throughput of one GPU: tokens of the step over its seconds and the GPUs."""
    return tokens_per_step / (step_s * num_gpus)
