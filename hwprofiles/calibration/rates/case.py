"""What a kernel to be timed is made of, whatever its kind. No torch here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Call = Callable[[], Any]

COLUMNS = (
    "part", "op", "variant", "dtype", "library", "m", "n", "k", "groups", "loads", "batch", "seq", "heads", "kv_heads",
    "head_dim_qk", "head_dim_v", "causal", "bytes", "flop",
)  # fmt: skip
"""What says which kernel it was; an empty cell means not applicable. m, n, k as in KernelShape (m, of wgrad k, over all
groups); loads: rows of each group, joined by spaces."""


@dataclass(frozen=True)
class RateCase:
    """cells: column of COLUMNS → value. make: puts operands on the device and gives the call; each further one has its own.

    operand_bytes: of one set of operands and results; launches: kernels of a call, about.
    """

    cells: Mapping[str, Any]
    make: Callable[[], Call]
    operand_bytes: float
    launches: int = 1

    @property
    def name(self) -> str:
        """The cells that are given, in words."""
        return " ".join(str(self.cells[column]) for column in COLUMNS if self.cells.get(column, "") != "")
