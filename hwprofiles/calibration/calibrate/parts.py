"""The one list of what `moesim calibrate` measures: kernels by kind, and what is no kernel."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from hwprofiles.calibration.calibrate.machine_parts import MACHINE, MachinePart
from hwprofiles.calibration.rates.case import RateCase, Size
from hwprofiles.calibration.rates.kinds import KINDS

__all__ = ["MACHINE", "NAMES", "PARTS", "MachinePart", "Part", "Size"]


@dataclass(frozen=True)
class Part:
    """Kernels of a kind: `cases` gives them all, of the coarse grid and the candidates of a finer one (RateCase.level)."""

    what: str
    cases: Callable[[Any, Size], Iterator[RateCase]]


PARTS: Final[Mapping[str, Part]] = MappingProxyType({
    "gemm": Part("dense GEMMs", KINDS["gemm"]),
    "grouped": Part("grouped GEMMs of experts", KINDS["grouped"]),
    "attention": Part("attention cores", KINDS["attention"]),
    "memory": Part("kernels bound by memory", KINDS["memory"]),
    "eager": Part("torch's functions one by one", KINDS["eager"]),
    "few_sms": Part("kernels on fewer SMs", KINDS["few_sms"]),
    "beside": Part("kernels beside another one", KINDS["beside"]),
})  # fmt: skip
"""Name, as --part takes it → kernels."""

NAMES: Final = (*PARTS, *MACHINE)
