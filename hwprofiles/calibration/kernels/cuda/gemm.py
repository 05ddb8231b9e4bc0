"""fprop and dgrad by gemm.cu: which tiles a product gets, how much shared memory they take, and the launch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

import torch
from torch import Tensor

from hwprofiles.calibration.kernels.cuda import driver
from hwprofiles.calibration.kernels.operands import Blocks, Rows
from hwprofiles.calibration.numerics.quantise import TILE

NUM_THREADS: Final = 384
"""A warpgroup that copies and two that multiply."""
_MATH_WARPS, _WARP_ROWS, _PANEL_PAD, _BARRIER_BYTES, _SCALE_BYTES, _SHARED_ALIGNED = 8, 16, 8, 8, 4, 1024
_FP32_PANEL: Final = 64
"""Columns of FP32 that a warp has on their way to memory; of BF16 it is all of a tile's."""


@dataclass(frozen=True)
class Tile:
    """What a block computes at a time; cluster blocks take as many tiles of the same rows. band: see gemm.cu.

    reach: TFLOPS of a long product that fills all rounds, over those of the best tile (H100, docs/kernels.md).
    """

    rows: int
    columns: int
    reach: float = 1.0
    cluster: int = 2
    band: int = 8

    def stages(self, out_dtype: torch.dtype) -> int:
        """Of 128 of K, as many as shared memory has room for."""
        return (driver.MAX_SHARED_BYTES - self._panel_bytes(out_dtype)) // self._stage_bytes

    def shared_bytes(self, out_dtype: torch.dtype) -> int:
        """As gemm.cu's `Shared`."""
        used = self.stages(out_dtype) * self._stage_bytes + self._panel_bytes(out_dtype)
        return used + -used % _SHARED_ALIGNED

    @property
    def scale_rows(self) -> int:
        """Of scales, copied for each of the two warpgroups that multiply: 16 bytes more than its rows have, see gemm.cu."""
        return self.rows // 2 + 4

    @property
    def _stage_bytes(self) -> int:
        of_scales = 2 * (self.scale_rows + -self.scale_rows % 32) * _SCALE_BYTES
        return (self.rows + self.columns) * TILE + of_scales + 2 * _BARRIER_BYTES

    def _panels(self, out_dtype: torch.dtype) -> tuple[int, int]:
        """Columns and number: with all of a warp's in shared memory at once none waits for another's way to memory."""
        return _FP32_PANEL if out_dtype is torch.float32 else self.columns, self.rows // 128

    def _panel_bytes(self, out_dtype: torch.dtype) -> int:
        columns, number = self._panels(out_dtype)
        return _MATH_WARPS * number * _WARP_ROWS * (columns + _PANEL_PAD) * out_dtype.itemsize

    def constants(self, out_dtype: torch.dtype) -> Mapping[str, int]:
        columns, number = self._panels(out_dtype)
        return {
            "TILE_ROWS": self.rows, "TILE_COLUMNS": self.columns, "STAGES": self.stages(out_dtype), "CLUSTER": self.cluster,
            "BAND": self.band, "PANEL_COLUMNS": columns, "PANELS": number, "SHARED_BYTES": self.shared_bytes(out_dtype),
            "FP32_OUT": int(out_dtype is torch.float32),
        }  # fmt: skip


TILES: Final = (Tile(256, 128), Tile(128, 192, reach=0.76, band=16), Tile(128, 128, reach=0.84, band=16))


@lru_cache(maxsize=4096)
def tile_for(num_rows: int, num_groups: int, num_columns: int, num_sms: int) -> Tile:
    """The tile with which a product takes least: rounds of all blocks, times a tile's size over what it reaches.

    Of uneven groups nothing is known here but their mean.
    """
    return min(TILES, key=lambda tile: _time_of(tile, num_rows, num_groups, num_columns, num_sms))


def _time_of(tile: Tile, num_rows: int, num_groups: int, num_columns: int, num_sms: int) -> float:
    rows_of_tiles = -(-num_rows // (num_groups * tile.rows)) * num_groups
    of_clusters = rows_of_tiles * -(-num_columns // (tile.columns * tile.cluster))
    rounds = -(-of_clusters // max(num_sms // tile.cluster, 1))
    return rounds * tile.rows * tile.columns / tile.reach


def product(left: Rows, right: Blocks, ends: Tensor, out: Tensor, num_sms: int, tile: Tile | None = None) -> None:
    """As kernels/products.py asks for it; there the operands have been checked. N may be any multiple of 16 here."""
    num_groups, num_columns, depth = right.values.shape
    tile = tile or tile_for(len(left.values), num_groups, num_columns, num_sms)
    if num_sms < tile.cluster:
        tile = replace(tile, cluster=1)
    kernel = driver.kernel(
        "gemm.cu", "gemm", out.device, constants=tile.constants(out.dtype), shared_bytes=tile.shared_bytes(out.dtype)
    )
    arguments = (
        driver.tensor_map(_with_pitch(left.values, 16), (tile.rows // tile.cluster, TILE), swizzle=TILE),
        driver.tensor_map(_with_pitch(left.scales.t(), 4), (1, tile.scale_rows)),
        driver.tensor_map(right.values.view(-1, depth), (tile.columns, TILE), swizzle=TILE),
        right.scales, ends, out, num_groups, num_columns, depth, out.stride(0),
    )  # fmt: skip
    kernel.launch(num_sms // tile.cluster * tile.cluster, NUM_THREADS, arguments, cluster=tile.cluster)


def _with_pitch(x: Tensor, multiple: int) -> Tensor:
    """x, of whose one row, where it has but one, nobody has said how far the next would be."""
    rows, columns = x.shape
    return x if rows > 1 else x.as_strided((1, columns), (columns + -columns % multiple, 1))
