"""Kernels bound by memory, as plain torch and as torch.compile makes them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch.nn import functional

from hwprofiles.calibration.measuring import random_bf16
from hwprofiles.calibration.rates.case import Call, RateCase

SIZES = ((1024, 4096), (4096, 7168), (16_384, 4096), (16_384, 7168))
"""Rows, width."""
SMALL = ((16, 64),)


def cases(device: Any, *, quick: bool) -> Iterator[RateCase]:
    """A copy, a sum, a norm and a gated activation; the last two also compiled, on a GPU."""
    for rows, width in SMALL if quick else SIZES:
        size = 2.0 * rows * width
        yield _case("copy", "torch", rows, width, 2.0 * size, partial(_copy, device, rows, width))
        yield _case("add", "torch", rows, width, 3.0 * size, partial(_add, device, rows, width))
        yield _case("rmsnorm", "torch", rows, width, 2.0 * size, partial(_norm, device, rows, width, False))
        yield _case("swiglu", "torch", rows, width, 3.0 * size, partial(_gated, device, rows, width, False), 2)
        if device.type == "cuda":
            yield _case("rmsnorm", "compiled", rows, width, 2.0 * size, partial(_norm, device, rows, width, True), 5)
            yield _case("swiglu", "compiled", rows, width, 3.0 * size, partial(_gated, device, rows, width, True), 5)


def _case(op: str, name: str, rows: int, width: int, moved: float, make: Any, launches: int = 1) -> RateCase:
    cells = {
        "part": "memory", "op": op, "dtype": "bf16", "library": name, "m": rows, "n": width, "bytes": round(moved),
    }  # fmt: skip
    return RateCase(cells, make, moved, launches)


def _copy(device: Any, rows: int, width: int) -> Call:
    x = random_bf16(device, rows, width)
    return partial(torch.empty_like(x).copy_, x)


def _add(device: Any, rows: int, width: int) -> Call:
    x, y = random_bf16(device, rows, width), random_bf16(device, rows, width)
    return partial(torch.add, x, y, out=torch.empty_like(x))


def _norm(device: Any, rows: int, width: int, compiled: bool) -> Call:
    x, scale = random_bf16(device, rows, width), torch.ones(width, device=device, dtype=torch.bfloat16)
    return partial(_compiled(functional.rms_norm) if compiled else functional.rms_norm, x, (width,), scale)


def _gated(device: Any, rows: int, width: int, compiled: bool) -> Call:
    x = random_bf16(device, rows, 2 * width)
    return partial(_compiled(_swiglu) if compiled else _swiglu, x)


def _swiglu(x: Any) -> Any:
    gate, up = x.chunk(2, dim=-1)
    return functional.silu(gate) * up


def _compiled(function: Any) -> Any:
    return torch.compile(function, dynamic=False)
