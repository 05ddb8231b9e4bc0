"""What a calibration measures beside kernels. No torch here: modules that measure are loaded when they are asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType
from typing import Any, Final

from hwprofiles.calibration.calibrate.facts import Facts
from hwprofiles.calibration.rates.case import Size
from hwprofiles.stack_records import Parameter

Row = Mapping[str, str]


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
    def table(self) -> str:
        """Name of its table."""
        return f"{self.module}.csv"

    @property
    def measuring(self) -> Any:
        """The module that measures: COLUMNS, seconds, measure."""
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

MACHINE: Final[Mapping[str, MachinePart]] = MappingProxyType({
    "host": MachinePart("what issuing work costs", "host", "host_parameters.yaml"),
    "network": MachinePart("messages between GPUs", "network", "network_parameters.yaml", needs_gpu=True, several=True),
    "power": MachinePart("watts and clocks under load", "power", "power_parameters.yaml"),
})  # fmt: skip
"""Name, as --part takes it → the rest, in the order in which it is measured."""
