"""What the streaming kernels take, and what is refused: each mismatch with both of its sides.

What stands on the device is not read for a check: sources and places are rows that there are, or below 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import torch
from torch import Tensor

from hwprofiles.calibration.errors import refuse
from hwprofiles.calibration.kernels.products import reason_against_triton
from hwprofiles.calibration.numerics.quantise import FP8, TILE
from hwprofiles.problem import Problem

BF16: Final = (torch.bfloat16,)
FP32: Final = (torch.float32,)
NUMBERS: Final = (torch.bfloat16, torch.float32)
INDICES: Final = (torch.int64,)

Sizes = tuple[int | None, ...]
"""Of a tensor; None: any."""


def require(*found: Iterator[Problem]) -> None:
    """Raises CalibrationError where there is a problem."""
    refuse([problem for each in found for problem in each])


def are_tensors(optional: Mapping[str, object], **needed: object) -> None:
    """Raises CalibrationError for what is no tensor. optional: may be None."""
    given = needed | {name: each for name, each in optional.items() if each is not None}
    refuse([
        Problem("", name, f"a {type(each).__name__}; a tensor is wanted")
        for name, each in given.items() if not isinstance(each, Tensor)
    ])  # fmt: skip


def tensor(
    name: str, given: Tensor, dtypes: tuple[torch.dtype, ...], sizes: Sizes, beside: Tensor | None = None
) -> Iterator[Problem]:
    """beside: on whose device it has to be; without, that has to be one with kernels."""
    if given.dtype not in dtypes:
        yield Problem("", name, f"{given.dtype}; {' or '.join(map(str, dtypes))} is wanted")
    is_alike = given.dim() == len(sizes) and all(
        want in (None, have) for want, have in zip(sizes, given.shape, strict=True)
    )
    if not is_alike:
        wanted = ", ".join("any" if size is None else str(size) for size in sizes)
        yield Problem("", name, f"shape {tuple(given.shape)}; ({wanted}) is wanted")
    if beside is not None:
        if given.device != beside.device:
            yield Problem("", name, f"on {given.device}; the other operands are on {beside.device}")
    elif reason := reason_against_triton(given.device):
        yield Problem("", name, f"on {given.device}, which has no streaming kernels ({reason})")


def multiple(name: str, what: str, found: int, of: int = TILE) -> Iterator[Problem]:
    """A size that has to be whole tiles."""
    if found % of:
        yield Problem("", name, f"{what} of {found}; a multiple of {of} is wanted")


def at_most(name: str, found: int, what: str, most: int) -> Iterator[Problem]:
    """A number of what is read, none of it beyond an operand's end."""
    if found > most:
        yield Problem("", name, f"{found}; {what} are {most}")


def quantised(values: Tensor, scales: Tensor) -> Iterator[Problem]:
    """FP8 values (r, C) and scales of their tiles 1x128."""
    yield from tensor("values", values, (FP8,), (None, None))
    if values.dim() == 2:
        yield from multiple("values", "rows", values.shape[1])
        yield from tensor("scales", scales, FP32, (len(values), values.shape[1] // TILE), values)
        if values.stride(1) != 1:
            yield Problem("", "values", f"strides {values.stride()}; the last dimension is innermost, of stride 1")
