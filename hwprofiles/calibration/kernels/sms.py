"""How many SMs the kernels use: all, or what is left of them to communication."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch

from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.problem import Problem

# Of the process: a backward runs on threads of autograd's own, which see no variable of a context or of a thread.
_allowed: list[int | None] = [None]


def set_num_sms(num: int | None) -> None:
    """Kernels launched from now on use at most so many SMs; None: all. Raises CalibrationError for fewer than one."""
    if num is not None and (not isinstance(num, int) or num < 1):
        raise CalibrationError([Problem("", "num_sms", f"{num!r} SMs run no kernel; give 1 or more, or None for all")])
    _allowed[0] = num


@contextmanager
def at_most_sms(num: int | None) -> Iterator[None]:
    """`set_num_sms` for the duration of a block."""
    before = _allowed[0]
    set_num_sms(num)
    try:
        yield
    finally:
        _allowed[0] = before


def num_sms(device: torch.device) -> int:
    """CTAs of a persistent kernel that has an SM to itself. On a CPU, where kernels are interpreted, few."""
    of_device = _of_device(device)
    return of_device if _allowed[0] is None else min(of_device, _allowed[0])


@cache
def _of_device(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 2
