"""The kinds of kernels that calibration measures: name → its kernels on a device, at a size of the measurement."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

from hwprofiles.calibration.rates import (
    attention,
    beside,
    by_columns,
    casts,
    dense,
    dense_fp8,
    eager,
    few_sms,
    grouped,
    grouped_fp8,
    loss,
    norms,
    own,
    own_streams,
    routing,
    rows,
)  # fmt: skip
from hwprofiles.calibration.rates.case import RateCase, Size
from hwprofiles.calibration.rates.moved import cases_of


def _gemm(device: Any, size: Size) -> Iterator[RateCase]:
    yield from dense.cases(device, size)
    yield from dense_fp8.cases(device, size)
    yield from own.dense_cases(device, size)


def _grouped(device: Any, size: Size) -> Iterator[RateCase]:
    yield from grouped.cases(device, size)
    yield from grouped_fp8.cases(device, size)
    yield from own.grouped_cases(device, size)


def _memory(device: Any, size: Size) -> Iterator[RateCase]:
    for each in (norms, casts, own_streams, rows, routing, loss, by_columns):
        yield from cases_of(each.KERNELS, device, size)


def _eager(device: Any, size: Size) -> Iterator[RateCase]:
    yield from cases_of(eager.KERNELS, device, size)


KINDS: Final[Mapping[str, Callable[[Any, Size], Iterator[RateCase]]]] = MappingProxyType({
    "gemm": _gemm, "grouped": _grouped, "attention": attention.cases, "memory": _memory, "eager": _eager,
    "few_sms": few_sms.cases, "beside": beside.cases,
})  # fmt: skip
"""Rows of eager say part `memory` too."""
