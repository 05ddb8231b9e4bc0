"""AMD's attention against what its library's authors publish, and against the GEMMs of the same chips."""

from __future__ import annotations

from statistics import fmean

import pytest

from hwprofiles.calibration.attention_amd import AMD_LINES
from hwprofiles.calibration.attention_published import published_calls
from hwprofiles.catalog import load_gpu
from hwprofiles.kernels.shape import KernelShape
from hwprofiles.kernels.table import kernel_seconds
from hwprofiles.leave_out import LeftOut
from hwprofiles.stack_choice import default_stack, load_stack
from hwprofiles.stack_records import Stack
from hwprofiles.transfer import build_stack

AMD = ("mi300x", "mi325x", "mi350x", "mi355x")


def errors(gpu: str, direction: str, stack: Stack) -> list[float]:
    """Predicted over published seconds of calls from 2,048 tokens on, minus one."""
    return [
        kernel_seconds(call.shape, stack, load_gpu(gpu), "alone").seconds / call.seconds - 1.0
        for call in published_calls()
        if (call.gpu, call.library) == (gpu, "aiter") and call.shape.op.endswith(direction) and call.shape.seq >= 2048
    ]


@pytest.mark.parametrize(
    ("gpu", "direction", "most"),
    [("mi300x", "fwd", 0.045), ("mi300x", "bwd", 0.08), ("mi355x", "fwd", 0.045), ("mi355x", "bwd", 0.025)],
)
def test_published_calls_are_met(gpu: str, direction: str, most: float) -> None:
    found = errors(gpu, direction, load_stack(default_stack(gpu)))
    assert len(found) > 40
    assert fmean(map(abs, found)) < most
    assert abs(fmean(found)) < 0.04


def test_one_chip_from_the_other_s_share() -> None:
    """A generation between them changes more than the peak: 30 to 60 % left out."""
    for gpu in ("mi300x", "mi355x"):
        found = errors(gpu, "fwd", build_stack("transfer", gpu, LeftOut(gpus=frozenset({gpu}))))
        assert 0.1 < fmean(map(abs, found)) < 0.6


@pytest.mark.parametrize("gpu", AMD)
@pytest.mark.parametrize("direction", ["fwd", "bwd"])
def test_no_attention_is_faster_than_the_chip_s_gemms(gpu: str, direction: str) -> None:
    stack, chip = load_stack(default_stack(gpu)), load_gpu(gpu)
    core = KernelShape(f"attention_{direction}", batch=4, seq=8192, heads=32, head_dim_qk=128, head_dim_v=128)
    gemm = KernelShape("gemm", "fprop", m=8192, n=8192, k=8192)
    rates = [each.flop_of_sizes / kernel_seconds(each, stack, chip, "alone").seconds for each in (core, gemm)]
    assert 0.5 * rates[1] < rates[0] < rates[1]


def test_lines_are_of_both_passes_and_masks() -> None:
    lines = {(gpu, direction, dim, causal): calls for gpu, _, direction, dim, causal, _, calls in AMD_LINES}
    assert len(lines) == len(AMD_LINES) == 10
    assert all(len(calls) == (31 if dim == 128 else 2) for (_, _, dim, _), calls in lines.items())
    for (gpu, direction, dim, causal), calls in lines.items():
        peak = load_gpu(gpu).peak_flop_per_s["bf16"] / 1e12
        assert all(0.05 * peak < rate < 0.65 * peak for *_, rate in calls), (gpu, direction, dim, causal)
