"""Every GPU has every kernel, and a better datasheet is never slower."""

from __future__ import annotations

import pytest

from hwprofiles.catalog import list_names, load_gpu
from hwprofiles.kernels.parameters import MissingKernelError
from hwprofiles.kernels.shape import KernelShape
from hwprofiles.kernels.table import kernel_seconds
from hwprofiles.stack_choice import load_stack
from hwprofiles.transfer import build_stack

GPUS = list_names("gpus")
BF16 = KernelShape("gemm", "fprop", "bf16", 4096, 7168, 4096)
FP8 = KernelShape("gemm", "fprop", "fp8-block", 4096, 7168, 4096)
MLA = {"batch": 1, "seq": 4096, "heads": 128, "kv_heads": 128, "head_dim_qk": 192, "head_dim_v": 128}
GQA = {"batch": 1, "seq": 8192, "heads": 64, "kv_heads": 8, "head_dim_qk": 128, "head_dim_v": 128}
SHAPES = (
    BF16,
    KernelShape("gemm", "wgrad", "bf16", 7168, 4096, 4096),
    KernelShape("grouped_gemm", "dgrad", "bf16", 32768, 2048, 7168, 4),
    FP8,
    KernelShape("grouped_gemm", "wgrad", "fp8-block", 7168, 2048, 32768, 4),
    *(KernelShape(op, **dims) for op in ("attention_fwd", "attention_bwd") for dims in (MLA, GQA)),
    *(KernelShape(op, bytes=10**8) for op in ("quantise", "permute", "rmsnorm_bwd", "cross_entropy", "adamw")),
)


def can_run(shape: KernelShape, gpu: str) -> bool:
    return shape.dtype != "fp8-block" or "fp8" in load_gpu(gpu).peak_flop_per_s


@pytest.mark.parametrize("gpu", GPUS)
def test_every_gpu_has_every_kernel_that_its_formats_allow(gpu: str) -> None:
    stack = load_stack(f"{gpu}-transfer")
    for shape in SHAPES:
        for regime in ("alone", "overlapped"):
            if can_run(shape, gpu):
                cost = kernel_seconds(shape, stack, load_gpu(gpu), regime)  # type: ignore[arg-type]
                assert 0.0 < cost.low <= cost.seconds <= cost.high


@pytest.mark.parametrize("gpu", GPUS)
def test_links_and_host_are_there(gpu: str) -> None:
    keys = set(load_stack(f"{gpu}-transfer").parameters)
    for link in ("nvlink", "nic"):
        assert {f"link.{link}.{op}" for op in ("all_to_all", "ring", "p2p")} <= keys
    assert {"all_to_all.t0_s", "all_to_all.sm_cost_dispatch", "all_to_all.sm_cost_combine"} <= keys
    assert {"ring.base_s", "ring.fill_s", "kernel_gap_s", "notify_floor_s", "dispatch_layout_s"} <= keys


def test_a_format_that_the_gpu_lacks_is_named() -> None:
    with pytest.raises(MissingKernelError, match="'a100' has no fp8 peak"):
        kernel_seconds(FP8, load_stack("a100-transfer"), load_gpu("a100"), "alone")


@pytest.mark.parametrize("gpu", ["h800", "b200", "a100", "mi300x"])
@pytest.mark.parametrize("grown", ["peak_flop_per_s", "hbm_bytes_per_s"])
def test_a_better_datasheet_is_never_slower(gpu: str, grown: str) -> None:
    plain = load_gpu(gpu)
    value = getattr(plain, grown)
    faster = {name: 1.7 * peak for name, peak in value.items()} if isinstance(value, dict) else 1.7 * value
    better = plain.model_copy(update={grown: faster})
    for shape in SHAPES:
        if can_run(shape, gpu):
            times = [kernel_seconds(shape, build_stack("transfer", g), g, "alone").seconds for g in (better, plain)]
            assert times[0] <= times[1]


def test_the_nearest_family_serves() -> None:
    assert "h100" in load_stack("h800-transfer").parameters["gemm.bf16.eta"].source.where
    assert "b200" in load_stack("gb200-transfer").parameters["gemm.bf16.eta"].source.where
    assert "a100" in load_stack("a100-40gb-transfer").parameters["gemm.bf16.eta"].source.where
    assert "h100" in load_stack("a100-transfer").parameters["gemm.bf16.wgrad.residual"].source.where
    assert "mi325x" in load_stack("mi355x-transfer").parameters["gemm.bf16.eta"].source.where, (
        "of the same vendor first"
    )
    assert "b200" in load_stack("mi355x-transfer").parameters["gemm.nvfp4.eta"].source.where


def test_another_family_widens_the_range() -> None:
    near, far = (load_stack(f"{gpu}-transfer").parameters["gemm.bf16.residual"] for gpu in ("h800", "mi355x"))
    assert far.high > near.high and far.low < near.low
