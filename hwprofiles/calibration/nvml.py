"""Energy, power, clock and temperature of one NVIDIA GPU from its driver's library (NVML), quick enough to ask under load."""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

from hwprofiles.units import MEGA, MILLI

_LIBRARY = "libnvidia-ml.so.1"
_SM_CLOCK, _TEMPERATURE_OF_GPU = 1, 0
"""NVML_CLOCK_SM and NVML_TEMPERATURE_GPU of nvml.h."""


class PowerReading(NamedTuple):
    """energy_j: since the driver was loaded (a counter that the board keeps); the others: now."""

    energy_j: float
    sm_clock_hz: float
    temperature_c: float


class Nvml:
    """One GPU by its number, as nvidia-smi counts. Raises OSError without the library, RuntimeError where a call fails."""

    def __init__(self, index: int) -> None:
        self._library = ctypes.CDLL(_LIBRARY)
        self._call("nvmlInit_v2")
        self._device = ctypes.c_void_p()
        self._call("nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index), ctypes.byref(self._device))

    def read(self) -> PowerReading:
        """Energy so far, and clock and temperature now."""
        energy_mj = self._number("nvmlDeviceGetTotalEnergyConsumption", ctypes.c_ulonglong())
        temperature_c = self._number("nvmlDeviceGetTemperature", ctypes.c_uint(), ctypes.c_uint(_TEMPERATURE_OF_GPU))
        return PowerReading(energy_mj * MILLI, self.sm_clock_hz(), float(temperature_c))

    def sm_clock_hz(self) -> float:
        """Clock of the SMs now."""
        return self._number("nvmlDeviceGetClockInfo", ctypes.c_uint(), ctypes.c_uint(_SM_CLOCK)) * MEGA

    def _number(self, name: str, into: Any, *selectors: Any) -> int:
        self._call(name, self._device, *selectors, ctypes.byref(into))
        return int(into.value)

    def _call(self, name: str, *arguments: Any) -> None:
        if code := getattr(self._library, name)(*arguments):
            raise RuntimeError(f"{name}: NVML error {code}")
