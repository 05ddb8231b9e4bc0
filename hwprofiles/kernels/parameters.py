"""Finds a stack's fitted parameters and its GPU's peaks by key; what is missing is named with the remedy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Protocol

from hwprofiles.kernels.rows import KernelRow, KernelTable
from hwprofiles.kernels.shape import PEAK_OF_DTYPE, Bound, KernelShape, Regime
from hwprofiles.provenance import Basis, Ranged, State
from hwprofiles.units import TERA


class MissingKernelError(LookupError):
    """A stack (or its GPU) has neither row nor parameter for a kernel; the message names both and the remedy."""


class ParameterLike(Ranged, Protocol):
    """A number of a stack with its range, unit and source (hwprofiles.stack_records: Parameter, Assumption)."""

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
    @property
    def family(self) -> str: ...
    @property
    def boost_clock_hz(self) -> float | None: ...


class StackLike(Protocol):
    """What the look-up needs of a stack (hwprofiles.stack_records.Stack)."""

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
    """A number with its low and high end; `basis` and `source` say where it comes from, `state` how the chip was then (None: as
    the stack's rows).
    """

    value: float
    low: float
    high: float
    basis: Basis = "assumed"
    source: str = ""
    state: State | None = None


EXACT = Range(1.0, 1.0, 1.0)
"""A factor of 1 without doubt."""


def find(stack: StackLike, *keys: str) -> Range | None:
    """The first of the keys that the stack has; assumptions (a scenario may override them) before parameters."""
    for key in keys:
        found: ParameterLike | None = stack.assumptions.get(key) or stack.parameters.get(key)
        if found is not None:
            basis: Basis = getattr(found, "basis", "assumed")
            return Range(found.value, found.low, found.high, basis, str(found.source), getattr(found, "state", None))
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


def overlap_ratio(stack: StackLike, bound: Bound, regime: Regime) -> float:
    """t_alone / t_overlapped of a class of kernels (`overlap.<class>.ratio`) where the regime is overlapped, else 1."""
    return need(stack, f"overlap.{bound}.ratio").value if regime == "overlapped" else 1.0


def missing(stack: StackLike, shape: KernelShape, keys: str) -> MissingKernelError:
    """The error of a kernel for which a stack has nothing."""
    values = {each.name: (getattr(shape, each.name), each.default) for each in fields(shape)}
    words = " ".join(f"{name}={value}" for name, (value, default) in values.items() if value not in (default, ()))
    way = "leave the library out, or " if shape.library else ""
    return MissingKernelError(
        f"stack {stack.name!r} has neither rows nor the parameter {keys} for {words}; {way}name a stack of "
        "`moesim calibrate` of a GPU that runs it"
    )


def row_problem(row: KernelRow, gpu: GpuLike) -> str | None:
    """Why no kernel on this GPU can have been so fast ("field: value; …"), or None.

    Only arithmetic is judged: memory-bound kernels whose data stays in the level-2 cache may beat the memory's bandwidth.
    """
    shape = row.shape
    if row.sms > gpu.num_sms:
        return f"sms: {row.sms} is out of range; allowed 0 to {gpu.num_sms} ({gpu.name})"
    if shape.bound == "memory":
        return None
    try:
        peak = peak_flop_per_s(gpu, shape.dtype) * (row.sms or gpu.num_sms) / gpu.num_sms
    except MissingKernelError as error:
        return f"dtype: {error}"
    if shape.flop_of_sizes <= peak * row.seconds:
        return None
    rate = shape.flop_of_sizes / row.seconds / TERA
    return (
        f"seconds: {row.seconds:g} is {rate:,.0f} TFLOP/s, above the dense peak of {gpu.name} ({peak / TERA:,.0f} TFLOP/s "
        f"on {row.sms or gpu.num_sms} SMs); allowed at least {shape.flop_of_sizes / peak:.3g} s"
    )
