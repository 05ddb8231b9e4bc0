"""What a kernel to be timed is made of, whatever its kind. No torch here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal

Call = Callable[[], Any]

Size = Literal["full", "quick", "cpu"]
"""How much is measured: full: minutes; quick: seconds on a GPU; cpu: a few small kernels, on any device."""

COLUMNS = (
    "part", "op", "variant", "dtype", "library", "m", "n", "k", "groups", "loads", "batch", "seq", "heads", "kv_heads",
    "head_dim_qk", "head_dim_v", "causal", "bytes", "launches", "flop", "sms", "beside",
)  # fmt: skip
"""What says which kernel it was; an empty cell means not applicable. m, n, k as in KernelShape (m, of wgrad k, over all
groups); of kernels bound by memory m rows of n numbers, and launches, the
kernels of a call; loads: rows of each group, joined by spaces; sms: SMs that are left to
the kernel, where others are held; beside: the kernel that runs on another stream all the time."""


@dataclass(frozen=True)
class RateCase:
    """cells: column of COLUMNS → value. make: puts operands on the device and gives the call; each further one has its own.

    operand_bytes: of one set of operands and results; launches: kernels of a call, about.
    around: what holds while the call is timed, entered after a first call: other kernels then run on streams of their own, so
    that who times waits for the current stream, not for the device, and neither takes nor gives back memory of the device.
    light: bound by memory, or short: the chip needs no rest before it.
    level: 0, of the coarse grid, which is measured first; 1, a candidate where the grid shall be finer.
    """

    cells: Mapping[str, Any]
    make: Callable[[], Call]
    operand_bytes: float
    launches: int = 1
    around: Callable[[], AbstractContextManager[Any]] | None = None
    light: bool = False
    level: int = 0

    @property
    def name(self) -> str:
        """The cells that are given, in words."""
        return " ".join(str(self.cells[column]) for column in COLUMNS if self.cells.get(column, "") != "")
