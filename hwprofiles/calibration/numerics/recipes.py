"""The recipes by name: the only list."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal, get_args

import torch

from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.calibration.numerics.blockwise import EmulatedBlockwise
from hwprofiles.calibration.numerics.blockwise_library import LibraryBlockwise
from hwprofiles.calibration.numerics.blockwise_own import OwnBlockwise
from hwprofiles.calibration.numerics.device import named_device
from hwprofiles.calibration.numerics.fp8 import Fp8, Products
from hwprofiles.calibration.numerics.library import Probe, probe_block_wise, probe_row_wise, reason_against, require
from hwprofiles.calibration.numerics.numerics import Numerics, Plain
from hwprofiles.calibration.numerics.rounded import RoundedBf16
from hwprofiles.calibration.numerics.rowwise import EmulatedRowwise, LibraryRowwise
from hwprofiles.names import nearest
from hwprofiles.problem import Problem

Gemms = Literal["auto", "library", "own", "emulated"]
"""Whether products run in the device's own format, by its library or (fp8-blockwise) by this project's kernels (own), in FP32
with rounded operands (emulated), or as the device can (auto: by its library where it has the products)."""


def _bf16(device: torch.device, gemms: Gemms) -> Numerics:
    is_native = gemms in ("library", "own") or (gemms == "auto" and device.type == "cuda")
    return Plain("bf16", torch.bfloat16) if is_native else RoundedBf16()


def _fp8(
    name: str,
    probe: Probe,
    by_library: Callable[[], Products[Any, Any, Any]],
    emulated: Callable[[], Products[Any, Any, Any]],
    own: Callable[[torch.device], Products[Any, Any, Any]],
) -> Callable[[torch.device, Gemms], Numerics]:
    """What makes a recipe: by library products where `probe` says that the device has them."""

    def make(device: torch.device, gemms: Gemms) -> Numerics:
        if gemms == "own":
            return Fp8(name, own(device), _bf16(device, "auto"))
        if gemms == "library":
            require(name, device, probe)
        is_emulated = gemms == "emulated" or bool(reason_against(device, probe))
        return Fp8(name, emulated() if is_emulated else by_library(), _bf16(device, "auto"))

    return make


def _none_of_rows(device: torch.device) -> Products[Any, Any, Any]:
    raise CalibrationError(
        [
            Problem(
                "", "gemms", "'own': this project has kernels of recipe 'fp8-blockwise' alone; use 'library' or 'auto'"
            )
        ]
    )


RECIPES: Final[dict[str, Callable[[torch.device, Gemms], Numerics]]] = {
    "float64": lambda device, gemms: Plain("float64", torch.float64),
    "float32": lambda device, gemms: Plain("float32", torch.float32),
    "bf16": _bf16,
    "fp8-blockwise": _fp8("fp8-blockwise", probe_block_wise, LibraryBlockwise, EmulatedBlockwise, OwnBlockwise),
    "fp8-row": _fp8("fp8-row", probe_row_wise, LibraryRowwise, EmulatedRowwise, _none_of_rows),
}


def numerics(recipe: str, device: torch.device | str = "cpu", gemms: Gemms = "auto") -> Numerics:
    """The formats of a recipe on a device. Raises CalibrationError: unknown, or the device has not what `gemms` asks for."""
    for field, value, known in (("recipe", recipe, RECIPES), ("gemms", gemms, get_args(Gemms))):
        if value not in known:
            raise CalibrationError([Problem("", field, f"{value!r} is unknown{nearest(str(value), known)}")])
    return RECIPES[recipe](named_device(device), gemms)
