"""What the host decides for wgrad.cu: the tile of a product, its shared memory, the launch. The kernel needs a Hopper GPU."""

from __future__ import annotations

import re

import pytest
import torch

from hwprofiles.calibration.kernels.cuda import driver, wgrad
from hwprofiles.calibration.kernels.cuda.wgrad import TILES, Tile, tile_for
from hwprofiles.calibration.kernels.operands import Columns
from hwprofiles.calibration.numerics.quantise import FP8
from tests.hwprofiles.kernels.launches import Launches

H100 = 132
SOURCE = (driver.FOLDER / "wgrad.cu").read_text()


def columns(num: int, tokens: int) -> Columns:
    return Columns(torch.zeros(num, tokens, dtype=FP8), torch.zeros(tokens // 128, num))


@pytest.mark.parametrize("tile", TILES)
def test_a_tile_fits_into_shared_memory_with_copies_ahead(tile: Tile) -> None:
    assert tile.shared_bytes <= driver.MAX_SHARED_BYTES
    assert tile.stages >= 3  # one that is multiplied, one that has come, one on its way


@pytest.mark.parametrize("tile", TILES)
def test_a_tile_has_its_constants_and_no_others(tile: Tile) -> None:
    constants = tile.constants(True)
    assert {name for name in re.findall(r"\b[A-Z][A-Z_]+\b", SOURCE) if name in constants} == set(constants)
    assert (constants["ACCUMULATE"], tile.constants(False)["ACCUMULATE"]) == (1, 0)


def test_tiles_are_those_that_fill_the_last_round() -> None:
    assert tile_for(4096, 7168, 1, H100).rows == 256
    assert tile_for(128, 7168, 1, H100).rows == 128  # half of 256 rows would be nobody's
    assert tile_for(4096, 7168, 4, 1).rows == 256


def test_columns_of_the_product_are_four_of_the_result_beside_each_other() -> None:
    """Numbers 2 q, 2 q + 1, 8 + 2 q, 9 + 2 q of 16, which one thread has, are rows 4 q to 4 q + 3 of the operand."""
    values = torch.arange(48).repeat_interleave(128).view(48, 128)
    laid = wgrad._in_products_order(values)
    assert laid.shape == (3, 2, 4, 2, 128)
    order = laid[..., 0].reshape(3, 16)
    for chunk in range(3):
        for q in range(4):
            of_thread = [order[chunk, place].item() for place in (2 * q, 2 * q + 1, 8 + 2 * q, 9 + 2 * q)]
            assert of_thread == [16 * chunk + 4 * q + i for i in range(4)]


def test_a_launch_names_operands_by_what_a_block_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    launches = Launches(monkeypatch)
    left, right = columns(304, 512), columns(400, 512)
    out, ends = torch.empty(3, 304, 400), torch.tensor([128, 128, 512], dtype=torch.int32)
    wgrad.wgrad(left, right, ends, out, True, H100, Tile(256, 4, cluster=2))
    a, b, a_scales, b_scales, *rest = launches.seen["arguments"]
    assert a == ((304, 512), (512, 1), (128, 128), 128)  # of 256 rows each block of the cluster copies half
    assert b == ((25, 2, 4, 2, 512), (16 * 512, 1024, 2048, 512, 1), (8, 2, 4, 2, 128), 128)
    assert a_scales == ((4, 304), (304, 1), (1, 256), 0)
    assert b_scales == ((4, 400), (400, 1), (1, 128), 0)
    assert rest == [ends, out, 3, 512, 304, 400]
    tiles_of_clusters = 3 * 2 * 2  # groups, 304 / 256 rows, 400 / (2 x 128) columns, rounded up
    assert (launches.seen["blocks"], launches.seen["cluster"]) == (2 * tiles_of_clusters, 2)


def test_one_sm_runs_no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    launches = Launches(monkeypatch)
    out, ends = torch.empty(1, 16, 16), torch.tensor([128], dtype=torch.int32)
    wgrad.wgrad(columns(16, 128), columns(16, 128), ends, out, False, 1, Tile(128, 6, cluster=2))
    assert (launches.seen["blocks"], launches.seen["cluster"], launches.seen["CLUSTER"]) == (1, 1, 1)
    assert launches.seen["arguments"][0][2] == (128, 128)


def test_scales_of_one_block_of_tokens_have_a_distance_nevertheless() -> None:
    odd = torch.zeros(1, 18).as_strided((1, 18), (7, 1))
    assert wgrad._with_pitch(odd).stride() == (20, 1)


@pytest.mark.parametrize("accumulate", [False, True])
def test_no_tokens_make_zeros_or_leave_what_is_there(monkeypatch: pytest.MonkeyPatch, accumulate: bool) -> None:
    launches = Launches(monkeypatch)
    out, ends = torch.full((2, 16, 16), 3.0), torch.zeros(2, dtype=torch.int32)
    wgrad.wgrad(columns(16, 0), columns(16, 0), ends, out, accumulate, H100)
    assert launches.seen == {} and out.unique().tolist() == [3.0 if accumulate else 0.0]
