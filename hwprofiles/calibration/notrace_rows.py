"""kernels.csv of stacks/h800-notrace: GEMMs and attention from published figures, nothing from a training trace."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from hwprofiles.calibration import reference_points as points
from hwprofiles.kernels.rows import KERNEL_COLUMNS
from hwprofiles.units import TERA

ROUNDING = 0.05
"""Half of the last printed digit of a speed-up."""
PRINTED_RATE = 0.005
"""Rounding of a printed TFLOP/s figure of three digits, relative."""
ATTENTION_SPREAD = 0.08
"""Deterministic against free backward, and release against release, in the same public tables (-8 to +7 %)."""

CUTLASS = "https://github.com/deepseek-ai/DeepGEMM README.md at a6d97a1 (2025-02-25)"
WGRAD = "https://github.com/deepseek-ai/DeepGEMM pull 95"
CUDNN = "https://github.com/NVIDIA/cudnn-frontend benchmark/sdpa_benchmark_training/results (3929da2)"

Cells = dict[str, object]


def _row(seconds: float, low: float, high: float, **cells: object) -> Cells:
    numbers = {"seconds": f"{seconds:.4e}", "low": f"{low:.4e}", "high": f"{high:.4e}"}
    return {"regime": "alone", "sms": 132, "basis": "measured", "state": "first_launches", **cells, **numbers}


def _forward_gemms(folder: Path) -> Iterator[Cells]:
    """The tuned CUTLASS kernel: DeepGEMM's time multiplied by the speed-up that its README prints."""
    library = points.deepgemm(folder, "initial", cutlass=False)
    for own, other in zip(points.deepgemm(folder, "initial", cutlass=True), library, strict=True):
        speed_up = own.seconds / other.seconds
        size = own.size
        yield _row(
            own.seconds, other.seconds * (speed_up - ROUNDING), other.seconds * (speed_up + ROUNDING),
            op="gemm" if size.groups == 1 else "grouped_gemm", variant="fprop", dtype="fp8-block", m=size.m, n=size.n,
            k=size.k, groups=size.groups, source=CUTLASS,
            note=f"{size.flop / other.seconds / TERA:.0f} TFLOP/s of DeepGEMM over its speed-up {speed_up:.1f}",
        )  # fmt: skip


def _weight_gradients(folder: Path) -> Iterator[Cells]:
    """The published kernel as it is; gemm.fp8-block.wgrad.scale says how much slower the training era's was."""
    for point in points.deepgemm_wgrad(folder, rerun_on_h200=False):
        size, seconds = point.size, point.seconds
        yield _row(
            seconds, seconds * (1.0 - PRINTED_RATE), seconds * (1.0 + PRINTED_RATE),
            op="gemm" if size.groups == 1 else "grouped_gemm", variant="wgrad", dtype="fp8-block", m=size.m, n=size.n,
            k=size.k, groups=size.groups, source=WGRAD, note="FP8 in, FP32 accumulated; H800 presumed",
        )  # fmt: skip


def _attention(folder: Path) -> Iterator[Cells]:
    """cuDNN on H200: the same SMs and peak, and compute-bound; the backward includes its pre- and postprocessing."""
    for direction in ("fwd", "bwd"):
        for head_dim in (192, 128):
            calls = points.attention_calls(folder, "H200", "cudnn", direction, ("bfloat16",), head_dim, "bf16")
            for call in sorted(calls, key=lambda call: call.shape.seq):
                s = call.shape
                yield _row(
                    call.seconds, call.seconds * (1.0 - ATTENTION_SPREAD), call.seconds * (1.0 + ATTENTION_SPREAD),
                    op=s.op, dtype="bf16", batch=s.batch, seq=s.seq, heads=s.heads, kv_heads=s.kv_heads,
                    head_dim_qk=s.head_dim_qk, head_dim_v=s.head_dim_v, causal="true", basis="transferred",
                    state="benchmark_loop", source=CUDNN, note="cuDNN 9.19 on H200",
                )  # fmt: skip


def as_csv(folder: Path) -> str:
    """The whole file."""
    text = io.StringIO()
    writer = csv.DictWriter(text, KERNEL_COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows([*_forward_gemms(folder), *_weight_gradients(folder), *_attention(folder)])
    return text.getvalue()
