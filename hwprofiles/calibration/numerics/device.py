"""Devices by torch's names: refused where torch does not know them, or cannot use them here."""

from __future__ import annotations

import torch

from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.problem import Problem


def named_device(name: torch.device | str, field: str = "device") -> torch.device:
    """Raises CalibrationError for a name that torch does not know."""
    try:
        return torch.device(name)
    except (RuntimeError, TypeError, ValueError) as wrong:
        raise _cannot(name, field, wrong) from None


def usable_device(name: torch.device | str, field: str = "device") -> torch.device:
    """Raises CalibrationError too for a device that is not here."""
    device = named_device(name, field)
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as wrong:
        raise _cannot(name, field, wrong) from None
    return device


def cpu_or_gpu(name: str) -> torch.device:
    """Of a command's --device. Raises CalibrationError too for a device of another kind."""
    device = usable_device(name, "--device")
    if device.type not in ("cpu", "cuda"):
        raise CalibrationError([Problem("", "--device", f"{name!r} is neither a CPU nor a CUDA device; try cpu")])
    return device


def _cannot(name: object, field: str, wrong: Exception) -> CalibrationError:
    reason = next(iter(str(wrong).splitlines()), type(wrong).__name__)
    return CalibrationError([Problem("", field, f"{str(name)!r} cannot be used ({reason}); try cpu")])
