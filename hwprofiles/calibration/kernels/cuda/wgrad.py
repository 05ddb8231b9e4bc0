"""Weight gradients by wgrad.cu: which tiles a product gets, how much shared memory they take, and the launch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

from torch import Tensor

from hwprofiles.calibration.kernels.cuda import driver
from hwprofiles.calibration.kernels.operands import MOST_GROUPS, Columns
from hwprofiles.calibration.numerics.quantise import TILE

NUM_THREADS: Final = 384
"""A warpgroup that copies and two that multiply."""
COLUMNS: Final = 128
"""Of a tile."""
_SCALE_BYTES, _END_BYTES, _BARRIER_BYTES = 4, 4, 8


@dataclass(frozen=True)
class Tile:
    """What a block of threads computes at a time: rows of COLUMNS numbers. stages: of 128 tokens, that are copied ahead.

    cluster: blocks beside each other, which share the rows' operand. band: rows of tiles that are under way together.
    reach: TFLOPS of a long product that fills all rounds, over those of the best tile (H100, docs/kernels.md).
    """

    rows: int
    stages: int
    reach: float = 1.0
    cluster: int = 1
    band: int = 8

    @property
    def shared_bytes(self) -> int:
        """As wgrad.cu's `Shared`."""
        of_stage = (self.rows + COLUMNS) * (TILE + _SCALE_BYTES) + 2 * _BARRIER_BYTES
        return self.stages * of_stage + MOST_GROUPS * _END_BYTES

    def constants(self, accumulate: bool) -> Mapping[str, int]:
        return {
            "TILE_ROWS": self.rows, "STAGES": self.stages, "CLUSTER": self.cluster, "BAND": self.band,
            "MOST_GROUPS": MOST_GROUPS, "ACCUMULATE": int(accumulate),
        }  # fmt: skip


TILES: Final = (Tile(256, 4), Tile(128, 6, reach=0.77))


@lru_cache(maxsize=4096)
def tile_for(num_rows: int, num_columns: int, num_groups: int, num_sms: int) -> Tile:
    """The tile with which a product takes least: rounds of all blocks, times a tile's rows over what it reaches."""

    def time_of(tile: Tile) -> float:
        of_clusters = _num_clusters(tile, num_rows, num_columns, num_groups)
        return -(-of_clusters // max(num_sms // tile.cluster, 1)) * tile.rows / tile.reach

    return min(TILES, key=time_of)


def _num_clusters(tile: Tile, num_rows: int, num_columns: int, num_groups: int) -> int:
    """As many as there is work for."""
    return num_groups * -(-num_rows // tile.rows) * -(-num_columns // (tile.cluster * COLUMNS))


def wgrad(
    left: Columns, right: Columns, ends: Tensor, out: Tensor, accumulate: bool, num_sms: int, tile: Tile | None = None
) -> None:
    """As kernels/products.py asks for it; there the operands have been checked."""
    num_groups, num_rows, num_columns = out.shape
    num_tokens = left.values.shape[1]
    if not num_tokens:  # no map of nothing
        if not accumulate:
            out.zero_()
        return
    tile = tile or tile_for(num_rows, num_columns, num_groups, num_sms)
    if num_sms < tile.cluster:
        tile = replace(tile, cluster=1)
    kernel = driver.kernel(
        "wgrad.cu", "wgrad", out.device, constants=tile.constants(accumulate), shared_bytes=tile.shared_bytes
    )
    num_clusters = min(num_sms // tile.cluster, _num_clusters(tile, num_rows, num_columns, num_groups))
    arguments = (
        driver.tensor_map(left.values, (tile.rows // tile.cluster, TILE), swizzle=TILE),
        driver.tensor_map(_in_products_order(right.values), (COLUMNS // 16, 2, 4, 2, TILE), swizzle=TILE),
        driver.tensor_map(_with_pitch(left.scales), (1, tile.rows)),
        driver.tensor_map(_with_pitch(right.scales), (1, COLUMNS)),
        ends, out, num_groups, num_tokens, num_rows, num_columns,
    )  # fmt: skip
    kernel.launch(num_clusters * tile.cluster, NUM_THREADS, arguments, cluster=tile.cluster)


def _in_products_order(values: Tensor) -> Tensor:
    """Rows of values (K, P) as the copy engine lays them into shared memory, (K / 16, 2, 4, 2, P).

    Of 16 columns of the tensor cores' product a thread has 2 q, 2 q + 1, 8 + 2 q and 9 + 2 q. With the operand's rows in
    this order they are columns 4 q to 4 q + 3 of the result, whose scales it reads, and which it writes, 16 bytes at a time.
    """
    rows, pitch = values.shape[0], values.stride(0)
    return values.as_strided((rows // 16, 2, 4, 2, values.shape[1]), (16 * pitch, 2 * pitch, 4 * pitch, pitch, 1))


def _with_pitch(scales: Tensor) -> Tensor:
    """Scales of one block of tokens, of which nobody has said how far the next would be."""
    blocks, columns = scales.shape
    return scales if blocks > 1 else scales.as_strided((1, columns), (columns + -columns % 4, 1))
