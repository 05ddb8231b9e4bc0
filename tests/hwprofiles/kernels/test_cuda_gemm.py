"""What the host decides for gemm.cu: the tile of a product, its shared memory, the launch. The kernel needs a Hopper GPU."""

from __future__ import annotations

import re

import pytest
import torch

from hwprofiles.calibration.kernels.cuda import driver, gemm
from hwprofiles.calibration.kernels.cuda.gemm import TILES, Tile, tile_for
from tests.hwprofiles.kernels.launches import Launches
from tests.hwprofiles.kernels.operands import blocks, rows

H100 = 132
DTYPES = (torch.bfloat16, torch.float32)
SOURCE = (driver.FOLDER / "gemm.cu").read_text()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("tile", TILES)
def test_a_tile_fits_into_shared_memory_with_copies_ahead(tile: Tile, dtype: torch.dtype) -> None:
    assert tile.shared_bytes(dtype) <= driver.MAX_SHARED_BYTES
    assert tile.stages(dtype) >= 3  # one that is multiplied, one that has come, one on its way


@pytest.mark.parametrize("tile", TILES)
def test_a_tile_has_its_constants_and_no_others(tile: Tile) -> None:
    head = SOURCE.partition("#include")[0]
    named = set(re.findall(r"\b[A-Z][A-Z0-9_]{3,}\b", head.partition("Constants of the compiler")[2]))
    assert set(tile.constants(torch.bfloat16)) == named
    assert tile.rows % (64 * tile.warpgroups) == 0  # of which each has waves of 64 rows


@pytest.mark.parametrize(
    ("num_rows", "num_groups", "num_columns", "depth", "rows"),
    [
        (4096, 1, 7168, 16384, 256),  # 7 rounds of 66 clusters, full but for 3 %; of 192 rows they are 10
        (4096, 1, 2112, 7168, 192),  # 3 rounds of smaller tiles, where 256 rows need 3, too
        (8192, 1, 7168, 2048, 256),
        (4 * 8192, 4, 4096, 7168, 192),  # 42 rounds full, where 256 rows begin a 32nd for 16 clusters
        (8 * 128, 8, 4096, 7168, 128),  # half of 256 rows would be nobody's
        (64, 1, 7168, 7168, 128),
    ],
)
def test_tiles_are_those_that_fill_rounds(
    num_rows: int, num_groups: int, num_columns: int, depth: int, rows: int
) -> None:
    assert tile_for(num_rows, num_groups, num_columns, depth, H100).rows == rows


def test_every_instruction_of_the_header_is_used() -> None:
    header = (driver.FOLDER / "hopper.cuh").read_text()
    used = header + "".join(path.read_text() for path in driver.FOLDER.glob("*.cu"))
    for name in re.findall(r"__device__ inline \w+ (\w+)\(", header):
        assert len(re.findall(rf"\b{name}\b", used)) > 1, name


def test_a_launch_names_operands_by_what_a_block_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    launches = Launches(monkeypatch)
    left, right = rows(300, 256), blocks(3, 384, 256)
    out, ends = torch.empty(300, 400)[:, :384], torch.tensor([100, 100, 300], dtype=torch.int32)
    gemm.product(left, right, ends, out, 9, Tile(256, 2, 16))
    a, b, to, a_scales, b_scales, *rest = launches.seen["arguments"]
    assert a == ((300, 256), (256, 1), (128, 128), 128)  # of 256 rows each block of the cluster copies half
    assert b == ((3 * 384, 256), (256, 1), (128, 128), 128)
    assert to == ((300, 384), (400, 1), (16, 32), 128)  # a warp's rows, 128 bytes of each
    assert (a_scales is left.scales, b_scales is right.scales) == (True, True)
    assert rest == [ends, out, 3, 300, 384, 2, 300, 400]
    assert (launches.seen["blocks"], launches.seen["threads"], launches.seen["cluster"]) == (8, 384, 2)
    assert launches.seen["FP32_OUT"] == 1


def test_one_sm_runs_no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    launches = Launches(monkeypatch)
    left, right, out = rows(1, 128), blocks(1, 128, 128), torch.empty(1, 128, dtype=torch.bfloat16)
    gemm.product(left, right, torch.tensor([1], dtype=torch.int32), out, 1)
    assert (launches.seen["blocks"], launches.seen["cluster"], launches.seen["CLUSTER"]) == (1, 1, 1)
    assert launches.seen["arguments"][0][1] == (128, 1)  # of one row the copy engine wants a distance, too
