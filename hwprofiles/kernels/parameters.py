"""Finds a stack's fitted parameters by key and turns them into constants of the kernel formulas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from hwprofiles.kernels.gemm_model import GemmConstants
from hwprofiles.kernels.rows import KernelTable
from hwprofiles.provenance import Basis
from hwprofiles.units import MICRO

PEAK_OF_DTYPE: dict[str, str] = {
    "bf16": "bf16", "fp16": "bf16", "fp32": "tf32", "tf32": "tf32",
    "fp8-block": "fp8", "fp8-row": "fp8", "fp8-tensor": "fp8", "mxfp8": "fp8", "fp8": "fp8",
    "nvfp4": "fp4", "mxfp4": "fp4", "fp4": "fp4",
}  # fmt: skip
"""Number format of an operator → the datasheet peak that bounds it."""


class MissingKernelError(LookupError):
    """A stack (or its GPU) has neither row nor parameter for a kernel; the message names both and the remedy."""


class ParameterLike(Protocol):
    """A number of a stack with its range, unit and source (hwprofiles.schema: Parameter, Assumption)."""

    @property
    def value(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...
    @property
    def source(self) -> Any: ...


class GpuLike(Protocol):
    """What the look-up needs of a GPU's datasheet (hwprofiles.schema.Gpu)."""

    @property
    def name(self) -> str: ...
    @property
    def peak_flop_per_s(self) -> Mapping[Any, float]: ...
    @property
    def hbm_bytes_per_s(self) -> float: ...
    @property
    def num_sms(self) -> int: ...


class StackLike(Protocol):
    """What the look-up needs of a stack (hwprofiles.schema.Stack)."""

    @property
    def name(self) -> str: ...
    @property
    def kernels(self) -> KernelTable: ...
    @property
    def parameters(self) -> Mapping[str, Any]: ...
    @property
    def assumptions(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Range:
    """A number with its low and high end; `basis` and `source` say where it comes from."""

    value: float
    low: float
    high: float
    basis: Basis = "assumed"
    source: str = ""


EXACT = Range(1.0, 1.0, 1.0)
"""A factor of 1 without doubt."""


def find(stack: StackLike, *keys: str) -> Range | None:
    """The first of the keys that the stack has; assumptions (a scenario may override them) before parameters."""
    for key in keys:
        found: ParameterLike | None = stack.assumptions.get(key) or stack.parameters.get(key)
        if found is not None:
            basis: Basis = getattr(found, "basis", "assumed")
            return Range(found.value, found.low, found.high, basis, str(found.source))
    return None


def need(stack: StackLike, *keys: str) -> Range:
    """As find; raises MissingKernelError that names the keys."""
    found = find(stack, *keys)
    if found is None:
        raise MissingKernelError(
            f"stack {stack.name!r} has no parameter {' or '.join(map(repr, keys))}; add it to its parameters.yaml"
        )
    return found


def peak_flop_per_s(gpu: GpuLike, dtype: str) -> float:
    """Dense datasheet peak for an operator's format. Raises MissingKernelError where the GPU has none."""
    name = PEAK_OF_DTYPE.get(dtype, dtype)
    peak = gpu.peak_flop_per_s.get(name) or (gpu.peak_flop_per_s.get("bf16") if name == "tf32" else None)
    if not peak:
        raise MissingKernelError(
            f"GPU {gpu.name!r} has no {name} peak, so it cannot run {dtype} kernels; "
            f"its formats: {', '.join(sorted(gpu.peak_flop_per_s))}"
        )
    return peak


_REQUIRED = ("t0_s", "t_tile_s", "st_bytes_per_s", "l2_bytes_per_s", "eta", "ecap", "eb")
_OPTIONAL = ("p", "bm_max", "bn_max", "bn_step")
"""Those for which `GemmConstants` has a default."""


def generic_gemm_constants(gpu: GpuLike) -> GemmConstants:
    """Shape of the formula for a stack that has rows but no fitted constants: only ratios between sizes are used.

    Tile overhead and rates are those of Hopper library kernels in round figures (reference fits lie within a factor 2).
    """
    per_sm = gpu.hbm_bytes_per_s / gpu.num_sms
    return GemmConstants(
        t0_s=2.0 * MICRO,
        t_tile_s=0.8 * MICRO,
        st_bytes_per_s=per_sm,
        l2_bytes_per_s=3.2 * per_sm,
        eta=0.85,
        ecap=0.8,
        eb=0.82,
    )


def gemm_constants(stack: StackLike, dtype: str, variant: str) -> tuple[GemmConstants, Range] | None:
    """Constants of a GEMM family and the range of measured / formula (`residual`); None where the stack lacks one."""
    values: dict[str, Any] = {}
    for name in (*_REQUIRED, *_OPTIONAL):
        found = find(stack, f"gemm.{dtype}.{variant}.{name}", f"gemm.{dtype}.{name}")
        if found is not None:
            values[name] = round(found.value) if name.startswith("b") else found.value
        elif name in _REQUIRED:
            return None
    residual = need(stack, f"gemm.{dtype}.{variant}.residual", f"gemm.{dtype}.residual")
    return GemmConstants(**values), residual


@dataclass(frozen=True, slots=True)
class AttentionConstants:
    """t = t0_s + FLOP * (1 + c_tokens / seq) / (rate_share * peak)."""

    t0_s: float
    c_tokens: float
    rate_share: float

    def seconds(self, flop: float, seq: int, peak: float) -> float:
        """Seconds of an attention core of `flop` FLOP at sequence length seq on a dense peak in FLOP/s."""
        return self.t0_s + flop * (1.0 + self.c_tokens / seq) / (self.rate_share * peak)


GENERIC_ATTENTION = AttentionConstants(t0_s=20.0 * MICRO, c_tokens=680.0, rate_share=0.65)
"""Form of the formula for a stack that has rows but no constants: the FlashAttention-3 fit on H100 in round figures."""

GENERIC_RESIDUAL = Range(1.0, 0.7, 1.4)
"""Measured over formula where only the form of the formula is known, as a factor: assumed."""


def attention_constants(
    stack: StackLike, dtype: str, direction: str, head_dim_qk: int
) -> tuple[AttentionConstants, Range] | None:
    """Constants of attention forward ("fwd") or backward ("bwd") for a head size and their residual range, or None.

    Keys of the head size (`attention.bf16.fwd.d192.rate_share`) go before those without one.
    """
    stem = f"attention.{dtype}.{direction}"

    def keys(name: str) -> tuple[str, str]:
        return f"{stem}.d{head_dim_qk}.{name}", f"{stem}.{name}"

    share = find(stack, *keys("rate_share"))
    if share is None:
        return None
    constants = AttentionConstants(need(stack, *keys("t0_s")).value, need(stack, *keys("c_tokens")).value, share.value)
    spread = need(stack, *keys("residual"))
    low, high = spread.low * share.value / share.high, spread.high * share.value / share.low
    return constants, Range(1.0, low, high, share.basis, share.source)
