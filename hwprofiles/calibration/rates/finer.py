"""Sizes between those of the coarse grid, of torch's kernels that are others from some rows or some width on.

Candidates of the finer grid, which measures where neighbours disagree: an embedding's gradient is walked token by token up to
3,072 of them and sorted beyond, a sort holds 32, 128 or 4,096 numbers of a row, softmax a row in a warp, in shared memory or in
neither, sums over rows are split over blocks once there are many, fused AdamW has a block for 65,536 numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from types import MappingProxyType
from typing import Final

Shape = tuple[int, int]
"""Rows, width."""
TOKENS: Final = (256, 1024, 2048, 3072, 8192, 16_384)
WIDTHS: Final = (64, 128, 512, 1024, 1536, 3072, 5120, 6144, 8192, 16_384, 32_768)
ROUTED: Final = (8, 32, 64, 128, 160, 256, 384, 512, 1024)
"""Numbers of a row, of scores of experts."""
NUMBERS: Final = 1 << 25
"""Of rows of many widths together."""


def _of(rows: tuple[int, ...], *widths: int) -> tuple[Shape, ...]:
    return tuple((count, width) for width, count in product(widths, rows))


def _as_many(*widths: int) -> tuple[Shape, ...]:
    return tuple((NUMBERS // width, width) for width in widths)


SIZES: Final[Mapping[tuple[str, str], tuple[Shape, ...]]] = MappingProxyType({
    ("adamw", "torch"): _of((256, 512, 2048, 8192, 16_384, 32_768), 1024),
    ("embedding_bwd", "torch"): _of(TOKENS, 2048, 4096),
    ("index_put", "torch"): _of(TOKENS, 2048) + _of((1024, 4096, 16_384), 5120),
    ("reduce_columns", "torch"): _of((256, 1024, 2048, 4096, 16_384), 1024, 4096),
    ("reduce_columns", "torch-heads"): _of((4096, 32_768, 65_536, 262_144), 128) + _of((16_384, 262_144), 64),
    ("rmsnorm", "torch-heads"): _of((32_768, 262_144), 64, 96, 256),
    ("rmsnorm_bwd", "torch-input"): _of((1024, 16_384), 2048) + _of((1024, 4096), 7168),
    ("rmsnorm_bwd", "torch-weight"): _of((1024, 16_384, 65_536, 131_072), 2048) + _of((4096, 16_384), 1024, 4096),
    ("softmax", "torch"): _as_many(*WIDTHS) + _of((256, 1024, 4096, 16_384), 2048),
    ("sort", "torch"): _of((4096, 32_768), *ROUTED),
    ("topk", "torch"): _of((4096, 32_768), 32, 64, 128, 256, 512),
})  # fmt: skip
"""Op and library → rows and widths; those of the coarse grid among them are measured once."""
