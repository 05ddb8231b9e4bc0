"""The one list of what `moesim calibrate` measures: kernels by kind, and what is no kernel."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, Final

from hwprofiles.calibration.rates import attention, dense, grouped, streaming
from hwprofiles.calibration.rates.case import RateCase, Size

__all__ = ["PARTS", "Part", "Size"]


@dataclass(frozen=True)
class Part:
    """Kernels of a kind: `cases` gives them all, of the coarse grid and the candidates of a finer one (RateCase.level)."""

    what: str
    cases: Callable[[Any, Size], Iterator[RateCase]]


def _of(cases: Callable[..., Iterator[RateCase]], device: Any, size: Size) -> Iterator[RateCase]:
    return cases(device, quick=size != "full")


PARTS: Final[Mapping[str, Part]] = MappingProxyType({
    "gemm": Part("dense GEMMs", partial(_of, dense.cases)),
    "grouped": Part("grouped GEMMs of experts", partial(_of, grouped.cases)),
    "attention": Part("attention cores", partial(_of, attention.cases)),
    "memory": Part("kernels bound by memory", partial(_of, streaming.cases)),
})  # fmt: skip
"""Name, as --part takes it → kernels."""
