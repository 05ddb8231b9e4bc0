"""A kernel of Triton. Imported only where Triton is."""

from __future__ import annotations

from importlib import import_module
from typing import Any

triton: Any = import_module("triton")
tl: Any = import_module("triton.language")


def _add_one(x: tl.tensor, size: tl.constexpr) -> None:
    places = tl.arange(0, size)
    tl.store(x + places, tl.load(x + places) + 1)


_KERNEL = triton.jit(_add_one)


def add_one(x: Any) -> None:
    """x (a power of two long), each number one more."""
    _KERNEL[(1,)](x, size=x.numel())
