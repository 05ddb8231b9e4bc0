"""The families of measured attention calls: which rows of the reference folder and which published figures each is fitted to.

python -m hwprofiles.calibration.fit REFERENCE_DIR attention            groups for stacks/transfer/attention.yaml
python -m hwprofiles.calibration.fit REFERENCE_DIR attention-left-out   errors on whole configurations and head sizes left out
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from hwprofiles.calibration import reference_points as points
from hwprofiles.calibration.attention_fit import (
    AttentionFit,
    Group,
    configuration,
    fit_attention,
    head_size,
    left_out,
)
from hwprofiles.calibration.attention_published import published_calls
from hwprofiles.calibration.reference_points import AttentionPoint
from hwprofiles.catalog import load_gpu
from hwprofiles.kernels.attention import CoreLimits, computed_head, core_limits
from hwprofiles.provenance import State

MIN_SEQ: Final = 1024
"""Shorter sequences are launch and prologue, not attention."""
DETERMINISTIC: Final = "deterministic backward"
"""Note of rows of a backward without atomic additions; fitted only where a head size has no others."""


@dataclass(frozen=True, slots=True)
class AttentionFamily:
    """gpu, library, dtype, direction: of the keys; device, implementation, table_dtypes: of the rows (device "": none).

    is_own: fitted to our own measurements, and to published figures of the library no more. blocks: library whose blocks a
    kernel cuts that no scenario can name.
    """

    gpu: str
    library: str
    direction: str
    dtype: str = "bf16"
    device: str = ""
    implementation: str = ""
    table_dtypes: tuple[str, ...] = ("bfloat16", "bfloat16, KV bfloat16")
    blocks: str = ""
    is_own: bool = False

    @property
    def state(self) -> State:
        """Of the chip when its calls were measured."""
        return "first_launches" if self.is_own else "benchmark_loop"

    @property
    def name(self) -> str:
        """As reports show it."""
        return f"{self.gpu} {self.library} {self.dtype} {self.direction}"

    @property
    def limits(self) -> CoreLimits:
        """Blocks of the library on the GPU."""
        return core_limits(load_gpu(self.gpu), self.dtype, self.direction, self.blocks or self.library)

    def published(self) -> list[AttentionPoint]:
        """Published figures of the library on the GPU."""
        return [
            AttentionPoint(call.shape, call.seconds, call.source) for call in published_calls()
            if (call.gpu, call.library) == (self.gpu, self.library) and call.shape.op.endswith(self.direction)
            and call.shape.seq >= MIN_SEQ
        ]  # fmt: skip

    def calls(self, folder: Path) -> list[AttentionPoint]:
        """Rows, published figures or own measurements from MIN_SEQ tokens on."""
        found = points.own_attention_calls(self.gpu, self.library, self.direction) if self.is_own else []
        if self.device:
            found += points.all_attention_calls(
                folder, self.device, self.implementation, self.direction, self.table_dtypes, self.dtype, self.library
            )
        if not self.is_own and self.dtype == "bf16":
            found += self.published()
        if (
            self.dtype != "bf16" and self.direction == "bwd"
        ):  # takes as long as without a window: blocks outside are not skipped
            found = [point for point in found if not point.shape.flop]
        free = {point.shape.head_dim_qk for point in found if DETERMINISTIC not in point.source}
        return [
            point for point in found
            if point.shape.seq >= MIN_SEQ
            and (DETERMINISTIC not in point.source or point.shape.head_dim_qk not in free)
        ]  # fmt: skip


FAMILIES: Final = (
    AttentionFamily("h100", "fa2", "fwd", is_own=True),
    AttentionFamily("h100", "fa2", "bwd", is_own=True),
    AttentionFamily("h100", "cudnn", "fwd", is_own=True),
    AttentionFamily("h100", "cudnn", "bwd", is_own=True),
    AttentionFamily("h100", "fa3", "fwd", device="H100 80GB HBM3", implementation="fa3"),
    AttentionFamily("h100", "fa3", "bwd"),
    AttentionFamily("h100", "cudnn-2024", "fwd"),
    AttentionFamily("h100", "cudnn-2024", "bwd"),
    AttentionFamily("h200", "cudnn", "fwd", device="NVIDIA H200", implementation="cudnn"),
    AttentionFamily("h200", "cudnn", "bwd", device="NVIDIA H200", implementation="cudnn"),
    AttentionFamily("gb200", "cudnn", "fwd", device="GB200", implementation="cudnn"),
    AttentionFamily("gb200", "cudnn", "bwd", device="GB200", implementation="cudnn"),
    AttentionFamily("b200", "fa2", "fwd"),
    AttentionFamily("b200", "fa2", "bwd"),
    *(AttentionFamily(gpu, "aiter", direction) for gpu in ("mi300x", "mi355x") for direction in ("fwd", "bwd")),
    *(
        AttentionFamily(gpu, library, direction, dtype, device, implementation, (table,))
        for gpu, library, direction, dtype, device, implementation, table in (
            ("h100", "fa3", "fwd", "fp8-tensor", "H100 80GB HBM3", "fa3", "fp8, KV fp8"),
            ("h200", "cudnn", "fwd", "fp8-tensor", "NVIDIA H200", "cudnn", "fp8"),
            ("h200", "cudnn", "bwd", "fp8-tensor", "NVIDIA H200", "cudnn", "fp8"),
            ("gb200", "cudnn", "fwd", "fp8-tensor", "GB200", "cudnn", "fp8"),
            ("gb200", "cudnn", "bwd", "fp8-tensor", "GB200", "cudnn", "fp8"),
            ("gb200", "cudnn", "fwd", "mxfp8", "GB200", "cudnn", "mxfp8"),
            ("gb200", "cudnn", "bwd", "mxfp8", "GB200", "cudnn", "mxfp8"),
        )
    ),
)
"""What attention.yaml has groups of."""
INFERENCE: Final = (
    AttentionFamily("h100", "trtllm", "fwd", device="H100 80GB HBM3", implementation="trtllm", blocks="cudnn"),
    AttentionFamily("b200", "trtllm", "fwd", device="NVIDIA B200", implementation="torch_flow", blocks="cudnn"),
    AttentionFamily("b200", "trtllm-mha", "fwd", device="NVIDIA B200", implementation="trtllm_mha", blocks="cudnn"),
)
"""Kernels of inference engines, which no training run has: they test the formula's form and give no group."""


def errors_left_out(folder: Path, family: AttentionFamily, group: Group) -> list[float]:
    """log(measured / predicted) of all calls, each predicted without its group, where its head size is left in the rest.

    Of `head_size` groups the nearest size's rate serves.
    """
    calls = family.calls(folder)
    errors: list[float] = []
    for name, found in left_out(calls, family.limits, family.library, group).items():
        rest = {computed_head(call.shape, family.library) for call in calls if group(call) != name}
        held = next(call for call in calls if group(call) == name)
        if group is head_size or computed_head(held.shape, family.library) in rest:
            errors += found
    return errors


def mean_error(errors: Sequence[float]) -> float:
    """Mean of |measured / predicted - 1|; NaN of nothing."""
    return float(np.mean(np.abs(np.expm1(errors)))) if errors else math.nan


def spread(errors: Sequence[float]) -> tuple[float, float]:
    """measured / predicted of the 5th and 95th percentile, around 1."""
    low, high = np.exp(np.quantile(errors, [0.05, 0.95]))
    return min(float(low), 1.0), max(float(high), 1.0)


def share_inside(errors: Sequence[float], limits: tuple[float, float]) -> float:
    """Share of the errors within measured / predicted limits."""
    inside = [limits[0] <= math.exp(error) <= limits[1] for error in errors]
    return sum(inside) / len(inside) if inside else math.nan


SHARED: Final = ("t0_s", "c_tokens", "softmax_clocks", "tail")
"""Constants of all head sizes of a family."""
Triple = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class FamilyConstants:
    """What attention.yaml says of a family: value, low, high over the fits without one configuration each.

    shared: constants of all head sizes; rate_share: by head size; calls, in_fit: number and mean error.
    """

    shared: dict[str, Triple]
    rate_share: dict[int, Triple]
    calls: int
    in_fit: float


def constants_of(folder: Path, family: AttentionFamily) -> FamilyConstants:
    """Fitted to all calls; the ranges over the folds."""
    calls = family.calls(folder)
    whole = fit_attention(calls, family.limits, family.library)
    folds = [whole, *_folds(calls, family)]
    shared = {name: _range([getattr(fold, name) for fold in folds]) for name in SHARED}
    rates = {
        size: _range([fold.rate_share[size] for fold in folds if size in fold.rate_share]) for size in whole.rate_share
    }
    return FamilyConstants(shared, rates, len(calls), mean_error(whole.residuals))


def _folds(calls: Sequence[AttentionPoint], family: AttentionFamily) -> Iterator[AttentionFit]:
    for name in dict.fromkeys(map(configuration, calls)):
        rest = [call for call in calls if configuration(call) != name]
        if rest:
            yield fit_attention(rest, family.limits, family.library)


def _range(values: Sequence[float]) -> Triple:
    return values[0], min(values), max(values)
