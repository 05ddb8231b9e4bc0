"""On what a run measures: GPU, driver, torch, clocks, power limit, options. No serial number, no UUID."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

from hwprofiles.calibration.measuring import query_gpu
from hwprofiles.units import MEGA

FORMAT: Final = 1
"""Of points.csv and run.json: a folder of another one is not gone on with."""


@dataclass(frozen=True)
class Facts:
    """device: as the driver names it; power_limit_w, clock_hz (highest SM clock): 0 where nothing tells; num_devices: GPUs of
    the host; parts, size: the options.
    """

    device: str
    size: str
    parts: tuple[str, ...]
    torch: str
    cuda: str
    driver: str
    power_limit_w: float
    clock_hz: float
    num_devices: int
    host_cpu: str
    format: int = FORMAT

    def as_dict(self) -> dict[str, Any]:
        """For run.json."""
        return {**asdict(self), "parts": list(self.parts)}

    def differences(self, other: Mapping[str, Any]) -> list[str]:
        """What a folder was begun with and what there is now, a field a line."""
        own = self.as_dict()
        return [f"{key}: {other.get(key)} then, {own[key]} now" for key in own if other.get(key) != own[key]]


def of_run(begun: Mapping[str, Any]) -> Facts:
    """Those of a run.json. Raises KeyError, TypeError: it holds others."""
    return Facts(**{each.name: begun[each.name] for each in fields(Facts)} | {"parts": tuple(begun["parts"])})


def gather(device: Any, size: str, parts: tuple[str, ...]) -> Facts:
    """Of this machine. device: torch's."""
    import torch

    from hwprofiles.calibration.host.core import processor
    from hwprofiles.calibration.measuring import driver_number

    if device.type != "cuda":
        return Facts(processor(), size, parts, torch.__version__, "", "", 0.0, 0.0, 0, processor())
    driver, limit, clock = _of_driver(driver_number(device))
    return Facts(
        device=torch.cuda.get_device_name(device),
        size=size,
        parts=parts,
        torch=torch.__version__,
        cuda=torch.version.cuda or getattr(torch.version, "hip", "") or "",
        driver=driver,
        power_limit_w=_number(limit),
        clock_hz=_number(clock) * MEGA,
        num_devices=torch.cuda.device_count(),
        host_cpu=processor(),
    )


def _of_driver(index: int) -> tuple[str, str, str]:
    """Driver, power limit (W) and highest SM clock (MHz) in its words; empty where nvidia-smi is not there."""
    try:
        found = query_gpu(index, "driver_version,power.limit,clocks.max.sm").split(", ")
    except (OSError, subprocess.CalledProcessError):
        found = []
    driver, limit, clock = found if len(found) == 3 else ("", "", "")
    return driver, limit, clock


def _number(text: str) -> float:
    """0 for what is no number."""
    try:
        return float(text)
    except ValueError:
        return 0.0
