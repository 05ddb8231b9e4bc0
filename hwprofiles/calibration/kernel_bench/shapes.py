"""Which products and streaming kernels are timed: layers of DeepSeek-V3 (report 4.2), and small ones for a rehearsal. No torch.

A product is that of a layer k → n over rows: fprop (rows, n, k), dgrad (rows, k, n), wgrad (n, k, rows), all of equal FLOP.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from hwprofiles.kernels.gemm_formula import GemmSize

Pass = Literal["fprop", "dgrad", "wgrad"]
PASSES: Final[tuple[Pass, ...]] = ("fprop", "dgrad", "wgrad")
BLOCK: Final = 128
"""Sides of a weight's block: n and k are padded to a multiple of it, as the torch model pads its weights."""
ROWS: Final = (4096, 8192)
DENSE: Final = ((2112, 7168), (24576, 1536), (32768, 512), (7168, 16384), (4096, 7168), (7168, 2048))
"""(n, k): queries and latents down, queries up, keys and values up, attention's output, an FFN of 2,048 up and down."""
EXPERTS: Final = ((4096, 7168), (7168, 2048))
EVEN: Final = (8192,) * 4
UNEVEN: Final = (13_088, 8736, 6544, 4400)
"""Rows of four experts, falling about as 1 / (1 + i / 2): multiples of 16, as torch wants them, and of no tile."""
HEAVY: Final[tuple[tuple[Pass, tuple[int, ...], int, int], ...]] = (
    ("fprop", (8192,), 7168, 16384), ("fprop", (8192,), 4096, 7168), ("wgrad", (8192,), 4096, 7168),
    ("fprop", EVEN, 4096, 7168),
)  # fmt: skip
"""Whose power is read: pass, rows, n, k."""
SMALL_ROWS: Final = (48,)
SMALL_DENSE: Final = ((128, 256), (192, 128))
SMALL_EXPERTS: Final = ((128, 128),)
SMALL_LOADS: Final = ((32, 32), (45, 0, 19))


@dataclass(frozen=True)
class Product:
    """counts: rows of each group, one of a dense layer."""

    variant: Pass
    counts: tuple[int, ...]
    n: int
    k: int

    @property
    def name(self) -> str:
        """For people."""
        rows = f"{self.counts[0]}" if len(self.counts) == 1 else f"{len(self.counts)} x {self._rows_word}"
        return f"{self.variant} {rows} rows, {self.n} x {self.k}"

    @property
    def _rows_word(self) -> str:
        return f"{self.counts[0]}" if len(set(self.counts)) == 1 else "uneven"

    @property
    def rows(self) -> int:
        """Of all groups."""
        return sum(self.counts)

    @property
    def is_grouped(self) -> bool:
        return len(self.counts) > 1

    @property
    def padded(self) -> tuple[int, int]:
        """n and k as the kernels see them."""
        return tuple(size + -size % BLOCK for size in (self.n, self.k))  # type: ignore[return-value]

    @property
    def size(self) -> GemmSize:
        """Of the layer's own sizes, without what is padded."""
        m, n, k = {"fprop": (self.rows, self.n, self.k), "dgrad": (self.rows, self.k, self.n)}.get(
            self.variant, (self.n, self.k, self.rows)
        )
        result = "fp32" if self.variant == "wgrad" else ""
        return GemmSize(m, n, k, len(self.counts), self.variant, "fp8-block", self._rows_cv, result)

    @property
    def _rows_cv(self) -> float:
        mean = self.rows / len(self.counts)
        return math.sqrt(math.fsum((count - mean) ** 2 for count in self.counts) / len(self.counts)) / mean

    @property
    def flop(self) -> float:
        """Useful ones: padding is none."""
        return self.size.flop

    @property
    def bytes(self) -> float:
        """Both operands with their scales and the result, each once; nothing is added to."""
        x, y, w = self.rows * self.k, self.rows * self.n, len(self.counts) * self.n * self.k
        tile, block = 1.0 + 4.0 / BLOCK, 1.0 + 4.0 / BLOCK**2
        sizes = {
            "fprop": x * tile + w * block + 2.0 * y,
            "dgrad": y * tile + w * block + 2.0 * x,
            "wgrad": (x + y) * tile + 4.0 * w,
        }
        return sizes[self.variant]


def dense(*, small: bool) -> Iterator[Product]:
    """Every layer and number of rows, forward; then its weight gradient; its input gradient at the fewest rows."""
    weights, rows = (SMALL_DENSE, SMALL_ROWS) if small else (DENSE, ROWS)
    yield from (Product("fprop", (count,), n, k) for count in rows for n, k in weights)
    yield from (Product("dgrad", (rows[0],), n, k) for n, k in weights)
    yield from (Product("wgrad", (count,), n, k) for count in rows for n, k in weights)


def grouped(*, small: bool) -> Iterator[Product]:
    """Every expert's layer, evenly and unevenly loaded, in all passes."""
    weights, loads = (SMALL_EXPERTS, SMALL_LOADS) if small else (EXPERTS, (EVEN, UNEVEN))
    for variant in PASSES:
        yield from (Product(variant, counts, n, k) for counts in loads for n, k in weights)


def heavy(*, small: bool) -> Iterator[Product]:
    """Of HEAVY; a rehearsal reads none."""
    if not small:
        yield from (Product(*each) for each in HEAVY)
