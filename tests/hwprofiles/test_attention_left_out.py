"""What a library of attention takes of a GPU of which nothing may be known: another family's share, or a newer release's."""

from __future__ import annotations

import pytest

from hwprofiles.catalog import load_gpu
from hwprofiles.kernels.attention import has_rates
from hwprofiles.kernels.attention_libraries import LIBRARIES
from hwprofiles.kernels.shape import KernelShape
from hwprofiles.kernels.table import kernel_seconds
from hwprofiles.leave_out import NOTHING, LeftOut
from hwprofiles.transfer import build_stack

# Mean of both passes, of a call of 16,384 tokens in heads of 128: predicted without the GPU over with it.
NEAR = {
    ("h100", "fa2"): 0.12,
    ("h100", "cudnn-2024"): 0.05,
    ("a100", "fa2"): 0.12,
    ("h100", "fa1"): 0.1,
    ("a100", "fa1"): 0.1,
}


def seconds(gpu: str, library: str, direction: str, without: LeftOut) -> float:
    shape = KernelShape(
        f"attention_{direction}", batch=4, seq=4096, heads=16, head_dim_qk=128, head_dim_v=128, library=library
    )
    return kernel_seconds(shape, build_stack("transfer", gpu, without), load_gpu(gpu), "alone").seconds


@pytest.mark.parametrize(
    ("gpu", "library"),
    [
        (gpu, name)
        for gpu in ("a100", "h100", "h200", "b200", "gb200")
        for name, library in LIBRARIES.items()
        if load_gpu(gpu).family in library.families and (gpu, name) not in (("h100", "fa3"), ("b200", "fa2"))
    ],
)
def test_a_library_has_rates_without_the_gpu_on_which_it_was_measured(gpu: str, library: str) -> None:
    """All but two, of which nothing near is public: FlashAttention-3 but on H100, FlashAttention-2 on Blackwell but on B200."""
    stack = build_stack("transfer", gpu, LeftOut(gpus=frozenset({gpu})))
    assert all(has_rates(stack, "bf16", direction, library) for direction in ("fwd", "bwd"))


@pytest.mark.parametrize(("gpu", "library"), NEAR)
def test_what_it_takes_then_is_near(gpu: str, library: str) -> None:
    without = LeftOut(gpus=frozenset({gpu}))
    ratios = [seconds(gpu, library, way, without) / seconds(gpu, library, way, NOTHING) for way in ("fwd", "bwd")]
    assert sum(ratios) / 2 == pytest.approx(1.0, abs=NEAR[gpu, library])
    assert ratios != [1.0, 1.0]


def test_bounds_of_one_family_serve_no_other() -> None:
    """FlashAttention-2 without any GPU of the family: these are Ampere's instructions, slower for Hopper's peak."""
    key = "attention.bf16.fwd.fa2.d128.rate_share"
    shares = {
        gpu: build_stack("transfer", gpu, LeftOut(gpus=frozenset({gpu}))).parameters[key] for gpu in ("a100", "h100")
    }
    assert shares["h100"].value == pytest.approx(0.63 * 0.784, rel=0.01), "0.63 of what an A100 reaches"
    assert shares["a100"].value > 1.4 * shares["h100"].value
    assert "attention.bf16.fwd.fa1.d128.rate_share" not in build_stack("transfer", "b200").parameters
