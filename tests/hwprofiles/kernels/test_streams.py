"""Quantising kernels, interpreted where there is no GPU: to the bit what `quantise` makes; memory poisoned, sizes odd."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.calibration.kernels.products import reason_against_triton
from hwprofiles.calibration.numerics.groups import Groups
from hwprofiles.calibration.numerics.quantise import TILE, Quantised, padded, quantise, transposed
from tests.hwprofiles.kernels.operands import numbers

pytest.importorskip("triton")

from hwprofiles.calibration.kernels import streams

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
pytestmark = [
    pytest.mark.skipif(bool(why := reason_against_triton(DEVICE)), reason=f"no kernels here: {why}"),
    pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning"),
]


@pytest.fixture(autouse=True)
def poisoned() -> Iterator[None]:
    """torch.empty is NaN: what a kernel leaves out shows."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


def random(*sizes: int, seed: int = 7) -> Tensor:
    return numbers(seed, *sizes).bfloat16().to(DEVICE)


def with_specials(num_rows: int, num_columns: int) -> Tensor:
    """A tile of zeros, tiny numbers, a NaN and an infinite number among random ones."""
    x = random(num_rows, num_columns)
    x[0, :TILE], x[1, 5], x[2, 100], x[3, :TILE] = 0, float("nan"), float("-inf"), 2.0**-122
    return x


def same(found: Tensor, expected: Tensor) -> bool:
    """To the bit, but for a zero's sign; a NaN is as good as another."""
    return found.shape == expected.shape and torch.equal(*(each.float().nan_to_num(-7.0) for each in (found, expected)))


@pytest.mark.parametrize("power_of_two", [False, True])
def test_rows(power_of_two: bool) -> None:
    x = with_specials(17, 200)
    values, scales = streams.quantise_rows(x, power_of_two=power_of_two)
    expected = quantise(x, (1, TILE), power_of_two=power_of_two)
    assert same(values, expected.values) and same(scales, expected.scales)
    assert scales.stride() == (1, 20)


GROUPS = Groups((5, 0, 12))


def spread(x: Tensor) -> Tensor:
    """Each group's rows from a multiple of 128 on, zeros between."""
    return GROUPS.spread(x, GROUPS.padded(TILE))


def sources() -> Tensor:
    return GROUPS.sources(GROUPS.padded(TILE), DEVICE)


@pytest.mark.parametrize(("is_fp8", "power_of_two"), [(False, True), (True, False)])
def test_columns_of_groups(is_fp8: bool, power_of_two: bool) -> None:
    x = with_specials(17, 200)
    kept = quantise(x, (1, TILE))
    given, scales = (kept.values, kept.scales) if is_fp8 else (x, None)
    made = streams.quantise_columns(given, scales, 200, sources(), 16, power_of_two=power_of_two)
    rows = Quantised(kept.values, kept.scales, (1, TILE)).numbers[:, :200] if is_fp8 else x
    expected = quantise(spread(padded(rows, (1, 16))), (TILE, 1), power_of_two=power_of_two)
    assert same(made[0], transposed(expected.values)) and same(made[1], expected.scales)


def test_rows_and_columns_of_one_reading() -> None:
    x = with_specials(17, 130)
    of_rows, of_columns = streams.quantise_both(x, sources())
    expected = quantise(x, (1, TILE)), quantise(spread(padded(x, (1, TILE))), (TILE, 1))
    assert same(of_rows[0], expected[0].values) and same(of_rows[1], expected[0].scales)
    assert same(of_columns[0], transposed(expected[1].values)) and same(of_columns[1], expected[1].scales)


def test_blocks_and_their_transposed_copy() -> None:
    x = numbers(3, 2, 130, 72).to(DEVICE)
    x[1, 3, 3] = float("nan")
    values, turned, scales = streams.quantise_blocks(x)
    expected = quantise(x, (TILE, TILE))
    assert turned is not None
    assert same(values, expected.values) and same(turned, transposed(expected.values)) and same(scales, expected.scales)
    alone = streams.quantise_blocks(x, with_turned=False)
    assert alone[1] is None and same(alone[0], expected.values)


def test_sources_may_lie_apart() -> None:
    x, apart = random(17, 130), torch.stack((sources(), torch.zeros_like(sources())), 1)[:, 0]
    assert same(
        streams.quantise_columns(x, None, 130, apart, 16)[0], streams.quantise_columns(x, None, 130, sources(), 16)[0]
    )
    assert same(streams.quantise_both(x, apart)[1][0], streams.quantise_both(x, sources())[1][0])


def test_nothing_of_no_rows() -> None:
    none = torch.empty(0, dtype=torch.int64, device=DEVICE)
    assert streams.quantise_rows(random(0, 200))[0].shape == (0, 256)
    assert streams.quantise_columns(random(0, 200), None, 200, none, 16)[0].shape == (208, 0)
    assert streams.quantise_both(random(0, 200), none)[1][1].shape == (0, 256)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda x, at: streams.quantise_rows(x.double()), r"x: torch.float64; torch.bfloat16 or torch.float32 is wanted"),
        (lambda x, at: streams.quantise_rows(x[0]), r"x: shape \(200,\); \(any, any\) is wanted"),
        (lambda x, at: streams.quantise_columns(x, None, 200, at[:100], 16), r"sources: a number of 100; a multiple of 128"),
        (lambda x, at: streams.quantise_columns(x, None, 200, at.int(), 16), r"sources: torch.int32; torch.int64 is wanted"),
        (lambda x, at: streams.quantise_columns(x, None, 201, at, 16), r"num_columns: 201; x's columns are 200"),
        (lambda x, at: streams.quantise_both(x, at.to("meta")), r"sources: on meta; the other operands are on c"),
        (
            lambda x, at: streams.quantise_columns(x.to(torch.float8_e4m3fn), x.float(), 200, at, 16),
            r"values: rows of 200; a multiple of 128 is wanted\nscales: shape \(17, 200\); \(17, 1\) is wanted",
        ),
        (lambda x, at: streams.quantise_rows(x.tolist()), r"x: a list; a tensor is wanted"),
        (lambda x, at: streams.quantise_columns(x, 1.0, 200, None, 16), r"sources: a NoneType.*\nscales: a float"),
        (lambda x, at: streams.quantise_blocks(x), r"x: shape \(17, 200\); \(any, any, any\) is wanted"),
        (lambda x, at: streams.quantise_rows(x.to("meta")), r"x: on meta, which has no streaming kernels"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(call: object, told: str) -> None:
    with pytest.raises(CalibrationError, match=told):
        call(random(17, 200), sources())  # type: ignore[operator]
