"""The one list of what `moesim calibrate` measures: kernels by kind, and what is no kernel."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType
from typing import Any, Final

from hwprofiles.calibration.calibrate.facts import Facts
from hwprofiles.calibration.rates.case import RateCase, Size
from hwprofiles.calibration.rates.kinds import KINDS
from hwprofiles.schema import Parameter

__all__ = ["MACHINE", "NAMES", "PARTS", "MachinePart", "Part", "Size"]

Row = Mapping[str, str]


@dataclass(frozen=True)
class Part:
    """Kernels of a kind: `cases` gives them all, of the coarse grid and the candidates of a finer one (RateCase.level)."""

    what: str
    cases: Callable[[Any, Size], Iterator[RateCase]]


@dataclass(frozen=True)
class MachinePart:
    """What is no kernel: a module of hwprofiles.calibration.machine, which is loaded when it is asked for.

    file: the parameters that are fitted to its table; needs_gpu: its fit asks which GPU it was; several: it takes no time
    where the host has one GPU.
    """

    what: str
    module: str
    file: str
    needs_gpu: bool = False
    several: bool = False

    @property
    def measuring(self) -> Any:
        """The module that measures: TABLE, COLUMNS, seconds, measure."""
        return import_module(f"{_ROOM}.{self.module}")

    def seconds(self, size: Size, facts: Facts) -> float:
        """What it takes, about."""
        return 0.0 if self.several and facts.num_devices < 2 else float(self.measuring.seconds(size))

    def parameters(self, rows: Sequence[Row], where: str, date: str, gpu: str) -> dict[str, Parameter]:
        """Of its table."""
        fit = import_module(f"{_ROOM}.{self.module}_fit").parameters
        found: dict[str, Parameter] = fit(rows, where, date, *([gpu] if self.needs_gpu else []))
        return found


_ROOM: Final = "hwprofiles.calibration.machine"

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

MACHINE: Final[Mapping[str, MachinePart]] = MappingProxyType({
    "host": MachinePart("what issuing work costs", "host", "host_parameters.yaml"),
    "network": MachinePart("messages between GPUs", "network", "network_parameters.yaml", needs_gpu=True, several=True),
    "power": MachinePart("watts and clocks under load", "power", "power_parameters.yaml"),
})  # fmt: skip
"""Name, as --part takes it → the rest, in the order in which it is measured."""

NAMES: Final = (*PARTS, *MACHINE)
