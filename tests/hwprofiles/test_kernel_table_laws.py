"""On every committed stack: more work is never faster, ranges hold values, a look-up of a whole step is quick."""

from __future__ import annotations

import re
import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwprofiles.catalog import load_gpu
from hwprofiles.kernels.attention import attention_constants
from hwprofiles.kernels.shape import KernelShape
from hwprofiles.kernels.table import kernel_seconds
from hwprofiles.stack_choice import load_stack

STACKS = ("h800-deepseek-2024", "h800-notrace", "h800-transfer", "b200-transfer")
REGIMES = ("alone", "overlapped")
MEMORY_OPS = (
    "rmsnorm", "rmsnorm_bwd", "quantise", "quantise_transpose", "dequantise", "quantise_e5m6", "dequantise_e5m6",
    "transpose", "rope", "copy", "add", "swiglu", "swiglu_bwd", "permute", "unpermute", "routing_map", "router_pointwise",
    "router_pointwise_bwd", "cross_entropy", "cross_entropy_bwd", "embedding", "embedding_bwd", "adamw",
)  # fmt: skip
SLACK = 1.0 + 1e-9

stacks = st.sampled_from(STACKS)
regimes = st.sampled_from(REGIMES)
sizes = st.sampled_from([512, 1024, 1536, 2048, 4096, 7168, 16384, 24576])


def seconds(stack: str, shape: KernelShape, regime: str) -> float:
    cost = kernel_seconds(shape, load_stack(stack), load_gpu(load_stack(stack).gpu), regime)  # type: ignore[arg-type]
    assert 0.0 < cost.low <= cost.seconds <= cost.high
    assert cost.basis in ("measured", "interpolated", "extrapolated", "transferred", "assumed")
    assert cost.source
    return cost.seconds


BETWEEN_ANCHORS = 1.05
"""Known defect of anchoring: where another measured row becomes the nearest, a larger call may come out faster. Of 23,040
pairs on a grid 44 do, by at most 4.6 %; all are far from any row, and of few microseconds."""


@settings(max_examples=150, deadline=None)
@given(
    stacks, regimes, st.sampled_from(["fprop", "dgrad", "wgrad"]), st.sampled_from(["bf16", "fp8-block"]),
    sizes, sizes, sizes, st.sampled_from([1, 4]), st.sampled_from("mnk"),
)  # fmt: skip
def test_twice_the_gemm_is_never_faster(
    stack: str, regime: str, variant: str, dtype: str, m: int, n: int, k: int, groups: int, grown: str
) -> None:
    small = {"m": m, "n": n, "k": k}
    large = {**small, grown: 2 * small[grown]}
    op = "gemm" if groups == 1 else "grouped_gemm"
    times = [seconds(stack, KernelShape(op, variant, dtype, **s, groups=groups), regime) for s in (small, large)]
    assert times[0] <= times[1] * BETWEEN_ANCHORS


@settings(max_examples=60, deadline=None)
@given(stacks, regimes, st.integers(16000, 60000), st.integers(1, 8000))
def test_more_expert_rows_are_never_faster(stack: str, regime: str, rows: int, more: int) -> None:
    times = [
        seconds(stack, KernelShape("grouped_gemm", "fprop", "fp8-block", m, 4096, 7168, 4), regime)
        for m in (rows, rows + more)
    ]
    assert times[0] <= times[1] * SLACK


@settings(max_examples=100, deadline=None)
@given(stacks, regimes, st.sampled_from(MEMORY_OPS), st.integers(10**4, 10**9), st.floats(1.0, 16.0))
def test_more_bytes_are_never_faster(stack: str, regime: str, op: str, moved: int, factor: float) -> None:
    times = [seconds(stack, KernelShape(op, bytes=size), regime) for size in (moved, int(moved * factor))]
    assert times[0] <= times[1] * SLACK


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("op", ["attention_fwd", "attention_bwd"])
@pytest.mark.parametrize(
    ("heads", "kv_heads", "qk", "v"), [(128, 128, 192, 128), (64, 8, 128, 128), (16, 16, 192, 128)]
)
def test_attention_grows_with_sequence_and_backward_costs_more(
    stack: str, op: str, heads: int, kv_heads: int, qk: int, v: int
) -> None:
    def shape(op: str, seq: int) -> KernelShape:
        return KernelShape(op, batch=1, seq=seq, heads=heads, kv_heads=kv_heads, head_dim_qk=qk, head_dim_v=v)

    times = [seconds(stack, shape(op, 1024 << i), "alone") for i in range(8)]
    assert all(1.2 * a < b < 4.5 * a for a, b in pairwise(times))
    assert seconds(stack, shape("attention_bwd", 4096), "alone") > 2.0 * seconds(
        stack, shape("attention_fwd", 4096), "alone"
    )


@pytest.mark.parametrize("stack", STACKS)
def test_beside_communication_is_never_faster_than_alone(stack: str) -> None:
    shapes = [KernelShape("gemm", "fprop", "fp8-block", 4096, 7168, 2048), KernelShape("rmsnorm", bytes=117440512)]
    for shape in shapes:
        assert seconds(stack, shape, "alone") <= seconds(stack, shape, "overlapped")


@pytest.mark.parametrize("stack", STACKS)
def test_shares_are_at_most_the_whole(stack: str) -> None:
    for key, parameter in load_stack(stack).parameters.items():
        if key.endswith(("_share", ".ecap", ".eta", ".eb", ".ratio")) or key.startswith("link."):
            assert parameter.value <= 1.0 or parameter.unit == "bytes/s" or key.endswith(".flows"), key


@pytest.mark.parametrize("stack", STACKS)
def test_constants_of_a_head_size_are_the_ones_used(stack: str) -> None:
    """Every attention key of a stack is one that the formula asks for, and one of a head size answers for that size."""
    loaded = load_stack(stack)
    sized = 0
    for key, parameter in loaded.parameters.items():
        if not key.startswith("attention."):
            continue
        named = re.fullmatch(
            r"attention\.([^.]+)\.(fwd|bwd)(?:\.([a-z][a-z0-9-]+))?(?:\.d(\d+))?"
            r"\.(rate_share|c_tokens|t0_s|tail|softmax_clocks|residual)",
            key,
        )
        assert named, key
        dtype, direction, library, head_dim, name = named.groups()
        if head_dim and name != "residual":
            shape = KernelShape(
                f"attention_{direction}", dtype=dtype, library=library or "", batch=1, seq=1, heads=1,
                head_dim_qk=int(head_dim), head_dim_v=int(head_dim),
            )  # fmt: skip
            found = attention_constants(loaded, shape)
            assert found is not None and getattr(found[1], name) == parameter.value, key
            sized += 1
    assert sized


def test_a_step_of_300_shapes_is_looked_up_sooner_than_python_counts_to_ten_million() -> None:
    """0.2 s where counting takes 0.5; in processor seconds, whatever else the machine does."""
    stack, gpu = load_stack("h800-deepseek-2024"), load_gpu("h800")
    shapes = [KernelShape("gemm", "fprop", "fp8-block", 3000 + 7 * i, 1536 + 64 * (i % 40), 7168) for i in range(150)]
    shapes += [KernelShape("grouped_gemm", "wgrad", "fp8-block", 7168, 2048, 30000 + 7 * i, 4) for i in range(75)]
    shapes += [KernelShape("copy", bytes=10**6 * (i + 1)) for i in range(75)]
    begin = time.process_time()
    for shape in shapes:
        kernel_seconds(shape, stack, gpu, "overlapped")
    looked_up = time.process_time()
    counted = 0
    while counted < 10**7:
        counted += 1
    assert looked_up - begin < time.process_time() - looked_up
