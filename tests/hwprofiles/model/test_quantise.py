"""FP8 with scales against the format itself, number by number, and the laws that scaling keeps."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hwprofiles.calibration.numerics.groups import Groups
from hwprofiles.calibration.numerics.quantise import (
    FP8,
    Quantised,
    nearest_fp8_,
    quantise,
    quantised_numbers,
    to_float32,
    transposed,
)

TILES = [(1, 128), (128, 1), (128, 128)]
CODES = torch.arange(256, dtype=torch.uint8).view(FP8)
E4M3 = CODES.double()[CODES.double().isfinite()].sort().values
"""Every number of the format."""


def spread_numbers(rows: int, columns: int, seed: int = 1) -> Tensor:
    """Random numbers over many powers of two, so that tiles differ and some values are subnormal."""
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.randint(-12, 4, (rows, columns), generator=generator).exp2()
    return torch.randn(rows, columns, generator=generator) * sizes


def test_the_format_is_e4m3() -> None:
    """1 sign, 4 bits of exponent with bias 7, 3 of mantissa; no infinity; the largest number is 448."""
    by_hand = {0.0}
    for exponent in range(16):
        for mantissa in range(8):
            size = mantissa / 8 * 2.0**-6 if exponent == 0 else (1 + mantissa / 8) * 2.0 ** (exponent - 7)
            if (exponent, mantissa) != (15, 7):
                by_hand |= {size, -size}
    assert set(E4M3.tolist()) == by_hand and max(by_hand) == 448


def test_fp8_is_read_back_by_shifting_bits() -> None:
    assert torch.equal(to_float32(CODES[CODES.float().isfinite()]), CODES.float()[CODES.float().isfinite()])
    assert to_float32(CODES[CODES.float().isnan()]).abs().tolist() == [480, 480]


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("sizes", [(128, 256), (130, 200), (1, 1), (3, 129)])
def test_each_number_is_the_nearest_of_the_format_in_its_tiles_scale(
    tile: tuple[int, int], sizes: tuple[int, int]
) -> None:
    x = spread_numbers(*sizes)
    made = quantise(x, tile)
    rows, columns = (-(-size // side) for size, side in zip(sizes, tile, strict=True))
    assert made.scales.shape == (rows, columns) and made.values.shape == (rows * tile[0], columns * tile[1])
    for row in range(rows):
        for column in range(columns):
            part = slice(row * tile[0], (row + 1) * tile[0]), slice(column * tile[1], (column + 1) * tile[1])
            inside, scale = x[part], made.scales[row, column]
            assert scale == inside.abs().max() / 448
            values = made.values[part].double()[: inside.shape[0], : inside.shape[1]]
            wanted = (inside / scale).double()
            nearest = (wanted.unsqueeze(-1) - E4M3).abs().min(-1).values
            assert torch.equal((values - wanted).abs(), nearest)
            numbers = made.numbers[part][: inside.shape[0], : inside.shape[1]]
            assert torch.equal(numbers, values.float() * scale)
    assert not made.numbers[sizes[0] :].any() and not made.numbers[:, sizes[1] :].any()


def test_an_element_is_off_by_a_sixteenth_or_by_half_a_step() -> None:
    x = spread_numbers(64, 256)
    made = quantise(x, (1, 128))
    scales = made.scales.repeat_interleave(128, dim=1)
    allowed = torch.maximum(x.abs() / 16, scales * 2.0**-10) * (1 + 1e-6)
    errors = (made.numbers - x).abs()
    assert (errors <= allowed).all() and (errors > allowed / 2).any()


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("power_of_two", [False, True])
def test_numbers_without_fp8_in_between_are_the_same(tile: tuple[int, int], power_of_two: bool) -> None:
    x = torch.cat([spread_numbers(200, 300), torch.zeros(60, 300), torch.full((3, 300), float("nan"))])
    by_way_of_fp8 = quantise(x, tile, power_of_two=power_of_two).numbers
    assert torch.equal(quantised_numbers(x, tile, power_of_two=power_of_two).nan_to_num(7), by_way_of_fp8.nan_to_num(7))


def test_numbers_between_two_of_the_format_go_to_the_nearest_and_ties_to_even() -> None:
    middles = ((E4M3[1:] + E4M3[:-1]) / 2).float()
    near = torch.cat(
        [middles, middles.nextafter(torch.tensor(500.0)), middles.nextafter(torch.tensor(-500.0)), E4M3.float()]
    )
    assert torch.equal(nearest_fp8_(near.clone()), near.to(FP8).float())


@pytest.mark.parametrize("tile", TILES)
def test_zeros_and_tiny_and_huge_tiles(tile: tuple[int, int]) -> None:
    x = torch.randn(128, 512, generator=torch.Generator().manual_seed(3))
    x[:, 0:128] = 0
    x[:, 128:256] *= 1e-44  # below what 448 divides
    x[:, 256:384] *= 5e37
    made = quantise(x, tile)
    assert made.numbers.isfinite().all() and not made.numbers[:, :128].any()
    assert (made.numbers[:, 128:256] - x[:, 128:256]).abs().max() <= x[:, 128:256].abs().max()
    assert (made.numbers - x).double()[:, 256:384].norm() < 0.04 * x.double()[:, 256:384].norm()
    assert (made.numbers - x)[:, 384:].norm() < 0.04 * x[:, 384:].norm()


def test_scales_are_powers_of_two_where_asked() -> None:
    x = spread_numbers(64, 512)
    x[5] = 0
    plain, rounded = quantise(x, (1, 128)).scales, quantise(x, (1, 128), power_of_two=True).scales
    assert torch.equal(rounded, torch.exp2(rounded.log2().round()))
    assert (rounded >= plain).all() and (rounded < 2 * plain).all()
    exact = torch.full((1, 128), 448.0)
    assert quantise(exact, (1, 128), power_of_two=True).scales.item() == 1


def test_with_powers_of_two_a_second_time_changes_nothing() -> None:
    once = quantise(spread_numbers(64, 256), (1, 128), power_of_two=True).numbers
    assert torch.equal(quantise(once, (1, 128), power_of_two=True).numbers, once)


@pytest.mark.parametrize("power_of_two", [False, True])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_number_that_is_none_spoils_its_tile_alone(bad: float, power_of_two: bool) -> None:
    x = torch.ones(4, 384)
    x[2, 200] = bad
    numbers = quantise(x, (1, 128), power_of_two=power_of_two).numbers
    spoilt = torch.zeros(4, 384, dtype=torch.bool)
    spoilt[2, 128:256] = True
    assert torch.equal(~numbers.isfinite(), spoilt)


@pytest.mark.parametrize("power_of_two", [False, True])
def test_a_tile_times_a_power_of_two_is_so_to_the_bit(power_of_two: bool) -> None:
    x = spread_numbers(8, 256)
    scaled = x.clone()
    scaled[3, 128:] *= 2.0**-9
    before, after = (quantise(values, (1, 128), power_of_two=power_of_two) for values in (x, scaled))
    assert torch.equal(after.values.view(torch.uint8), before.values.view(torch.uint8))
    factors = torch.ones(8, 2)
    factors[3, 1] = 2.0**-9
    assert torch.equal(after.scales, before.scales * factors)


def test_experts_are_quantised_as_each_alone() -> None:
    weights = torch.stack([spread_numbers(130, 200, seed) for seed in range(3)])
    made = quantise(weights, (128, 128))
    for idx, weight in enumerate(weights):
        alone = quantise(weight, (128, 128))
        assert torch.equal(made.scales[idx], alone.scales) and torch.equal(made.numbers[idx], alone.numbers)


def test_bf16_is_quantised_as_the_same_numbers_in_fp32() -> None:
    x = spread_numbers(16, 256).bfloat16()
    assert torch.equal(quantise(x, (1, 128)).numbers, quantise(x.float(), (1, 128)).numbers)


def test_transposed_blocks_are_the_transposed_matrix() -> None:
    made = quantise(spread_numbers(256, 384).unsqueeze(0), (128, 128))
    turned = Quantised(transposed(made.values), made.scales.transpose(1, 2), (128, 128))
    assert torch.equal(turned.numbers, made.numbers.transpose(1, 2))


@pytest.mark.parametrize("counts", [(5, 0, 33, 16), (7,), (0, 0), (16, 32)])
def test_groups_spread_their_rows(counts: tuple[int, ...]) -> None:
    groups = Groups(counts)
    rows = torch.arange(1.0, sum(counts) + 1).unsqueeze(1).expand(-1, 3)
    within = groups.padded(16, at_least=16)
    assert all(count % 16 == 0 and count >= 16 for count in within.counts)
    spread = groups.spread(rows, within)
    assert len(spread) == sum(within.counts) and spread.sum() == rows.sum()
    assert torch.equal(torch.cat([spread[part] for part in groups.slices(within)]), rows)
    assert [part.start % 16 for part in groups.slices(within)] == [0] * len(counts)
