"""fprop and dgrad by gemm.cu: which tiles a product gets, how much shared memory they take, and the launch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

import torch
from torch import Tensor

from hwprofiles.calibration.kernels.cuda import driver
from hwprofiles.calibration.kernels.operands import ALIGNED_BYTES, Blocks, Rows
from hwprofiles.calibration.numerics.quantise import TILE

WARPGROUP: Final = 128
"""Threads. One warpgroup of a block copies, the others multiply."""
_WARPS, _WARP_ROWS, _WAVE_ROWS, _SHARED_ALIGNED = 4, 16, 64, 1024
_SCALE_BYTES, _BARRIER_BYTES = 4, 8


@dataclass(frozen=True)
class Tile:
    """What a block computes at a time: `rows` of 128 columns, by so many warpgroups that multiply.

    reach: TFLOPS of products of long K over those of the first tile, both of full rounds; between: what lies between two
    tiles, as so many more stages of 128 of K (both of an H100, docs/kernels.md).
    cluster: blocks that take as many tiles of the same rows; band: tiles of rows that are done together, see gemm.cu.
    """

    rows: int
    warpgroups: int
    band: int
    reach: float = 1.0
    between: float = 0.0
    cluster: int = 2

    def stages(self, out_dtype: torch.dtype) -> int:
        """Of 128 of K, as many as shared memory has room for."""
        return (driver.MAX_SHARED_BYTES - self._panel_bytes(out_dtype)) // self._stage_bytes

    def shared_bytes(self, out_dtype: torch.dtype) -> int:
        """As gemm.cu's `Shared`."""
        used = self.stages(out_dtype) * self._stage_bytes + self._panel_bytes(out_dtype)
        return used + -used % _SHARED_ALIGNED

    @property
    def _stage_bytes(self) -> int:
        of_scales = self.rows * _SCALE_BYTES + ALIGNED_BYTES  # those of the rows, from a multiple of 16 bytes on
        return (self.rows + TILE) * TILE + of_scales + 2 * _BARRIER_BYTES

    def _panel_bytes(self, out_dtype: torch.dtype) -> int:
        """What is on its way to memory: of BF16 a whole tile, so that nothing waits, of FP32 a wave of each warpgroup."""
        waves = 1 if out_dtype is torch.float32 else self.rows // self.warpgroups // _WAVE_ROWS
        return self.warpgroups * _WARPS * waves * _WARP_ROWS * TILE * out_dtype.itemsize

    def constants(self, out_dtype: torch.dtype) -> Mapping[str, int]:
        return {
            "TILE_ROWS": self.rows, "NUM_MATH_GROUPS": self.warpgroups, "STAGES": self.stages(out_dtype),
            "CLUSTER": self.cluster, "BAND": self.band, "SHARED_BYTES": self.shared_bytes(out_dtype),
            "FP32_OUT": int(out_dtype is torch.float32),
        }  # fmt: skip


TILES: Final = (Tile(256, 2, 16, 1.0, 0.7), Tile(192, 3, 11, 1.03, 1.5), Tile(128, 2, 32, 0.81, 0.5))


@lru_cache(maxsize=4096)
def tile_for(num_rows: int, num_groups: int, num_columns: int, depth: int, num_sms: int) -> Tile:
    """The tile with which a product takes least: rounds of all blocks, times what a tile takes.

    Of uneven groups nothing is known here but their mean.
    """

    def time_of(tile: Tile) -> float:
        rows_of_tiles = -(-num_rows // (num_groups * tile.rows)) * num_groups
        of_clusters = rows_of_tiles * -(-num_columns // (TILE * tile.cluster))
        rounds = -(-of_clusters // max(num_sms // tile.cluster, 1))
        return rounds * tile.rows * (depth / TILE + tile.between) / tile.reach

    return min(TILES, key=time_of)


def product(left: Rows, right: Blocks, ends: Tensor, out: Tensor, num_sms: int, tile: Tile | None = None) -> None:
    """As kernels/products.py asks for it; there the operands have been checked. N may be any multiple of 16 here."""
    num_groups, num_columns, depth = right.values.shape
    tile = tile or tile_for(len(left.values), num_groups, num_columns, depth, num_sms)
    if num_sms < tile.cluster:
        tile = replace(tile, cluster=1)
    kernel = driver.kernel(
        "gemm.cu", "gemm", out.device, constants=tile.constants(out.dtype), shared_bytes=tile.shared_bytes(out.dtype)
    )
    maps = (
        driver.tensor_map(_with_pitch(left.values, 16), (tile.rows // tile.cluster, TILE), swizzle=128),
        driver.tensor_map(right.values.view(-1, depth), (TILE, TILE), swizzle=128),
        driver.tensor_map(_with_pitch(out, 8), (_WARP_ROWS, 128 // out.itemsize), swizzle=128),
    )
    sizes = (num_groups, len(out), num_columns, depth // TILE, left.scales.stride(1), out.stride(0))
    arguments = (*maps, left.scales, right.scales, ends, out, *sizes)
    num_blocks = num_sms // tile.cluster * tile.cluster
    kernel.launch(num_blocks, (1 + tile.warpgroups) * WARPGROUP, arguments, cluster=tile.cluster)


def _with_pitch(x: Tensor, multiple: int) -> Tensor:
    """x, of whose one row, where it has but one, nobody has said how far the next would be."""
    rows, columns = x.shape
    return x if rows > 1 else x.as_strided((1, columns), (columns + -columns % multiple, 1))
