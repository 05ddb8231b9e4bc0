"""The recipes by name: the only list."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

import torch

from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.calibration.numerics.blockwise import EmulatedBlockwise
from hwprofiles.calibration.numerics.fp8 import Fp8
from hwprofiles.calibration.numerics.numerics import Numerics, Plain
from hwprofiles.calibration.numerics.rounded import RoundedBf16
from hwprofiles.names import nearest
from hwprofiles.problem import Problem

Gemms = Literal["auto", "library", "emulated"]
"""Whether products run in the device's own format (library), in FP32 with rounded operands (emulated), or as it can (auto)."""


def _bf16(device: torch.device, gemms: Gemms) -> Numerics:
    is_native = gemms == "library" or (gemms == "auto" and device.type == "cuda")
    return Plain("bf16", torch.bfloat16) if is_native else RoundedBf16()


def _fp8_blockwise(device: torch.device, gemms: Gemms) -> Numerics:
    return Fp8("fp8-blockwise", EmulatedBlockwise(), _bf16(device, "auto"))


RECIPES: Final[dict[str, Callable[[torch.device, Gemms], Numerics]]] = {
    "float64": lambda device, gemms: Plain("float64", torch.float64),
    "float32": lambda device, gemms: Plain("float32", torch.float32),
    "bf16": _bf16,
    "fp8-blockwise": _fp8_blockwise,
}


def numerics(recipe: str, device: torch.device | str = "cpu", gemms: Gemms = "auto") -> Numerics:
    """The formats of a recipe on a device. Raises CalibrationError: unknown, or the device has not what `gemms` asks for."""
    if recipe not in RECIPES:
        raise CalibrationError([Problem("", "recipe", f"{recipe!r} is unknown{nearest(recipe, RECIPES)}")])
    return RECIPES[recipe](torch.device(device), gemms)
