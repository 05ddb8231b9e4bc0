"""Cluster sizes as they are asked for, and the search for the smallest one that fits."""

from __future__ import annotations

import pytest

from simulator.errors import InputError
from simulator.run.planner.cluster_sizes import (
    MAX_LISTED,
    MAX_TRIED,
    AskedSizes,
    read_sizes,
    sizes_of_table,
    smallest_that_fits,
)
from simulator.scenario.section import MAX_GPUS


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        (None, AskedSizes()),
        ("64", AskedSizes(listed=(64,))),
        ("128, 64", AskedSizes(listed=(64, 128))),
        ("4,8,16", AskedSizes(listed=(4, 8, 16))),
        ("8..1024", AskedSizes(ends=(8, 1024))),
        ("64..64", AskedSizes(ends=(64, 64))),
    ],
)
def test_sizes_are_a_list_or_a_range(text: str | None, asked: AskedSizes) -> None:
    assert read_sizes(text, 8) == asked


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no number of GPUs"),
        ("64,", "no number of GPUs"),
        ("sixty", "no number of GPUs"),
        ("-8", "no number of GPUs"),
        ("64.0", "no number of GPUs"),
        ("0", "out of range"),
        (f"{MAX_GPUS + 8}", "out of range"),
        ("9" * 400, "no number of GPUs"),
        ("100", "no whole number of nodes of 8; next: 96 and 104"),
        ("12..64", "no whole number of nodes of 8; next: 8 and 16"),
        ("128..64", "write 64..128"),
        ("64,128..256", "not both in one"),
        ("64..128..256", "not both in one"),
        ("64..", "no number of GPUs"),
        ("64,64", "names 64 twice"),
        (",".join(str(8 * each) for each in range(1, MAX_LISTED + 2)), "or a range: 8..136"),
    ],
)
def test_sizes_that_are_none_are_refused(text: str, said: str) -> None:
    with pytest.raises(InputError, match=r"--num-gpus: ") as refused:
        read_sizes(text, 8)
    assert said in str(refused.value)
    assert len(str(refused.value)) < 1_000


@pytest.mark.parametrize("unit", [1, 4, 8, 72])
@pytest.mark.parametrize("smallest", [1, 2, 3, 8, 24, 72, 136, 1_000, 4_104, 100_000])
def test_the_smallest_that_fits_is_found(smallest: int, unit: int) -> None:
    """What fits wherever there are enough GPUs: the smallest size of whole nodes is found in few tries."""
    tried: list[int] = []

    def fits(size: int) -> bool:
        tried.append(size)
        return size >= smallest

    found = smallest_that_fits(fits, unit)
    sizes = [*range(1, unit), *range(unit, 1 << 18, unit)]
    assert found == next(size for size in sizes if size >= smallest)
    assert all(size < unit or size % unit == 0 for size in tried)
    assert len(tried) <= 18 + unit + 4 * MAX_TRIED


def test_a_size_that_divides_badly_is_stepped_over() -> None:
    assert smallest_that_fits(lambda size: size >= 130 and size not in (136, 144), 8) == 152


def test_nothing_fits_where_no_doubling_does() -> None:
    tried: list[int] = []
    assert smallest_that_fits(lambda size: bool(tried.append(size)), 8, most=1 << 12) is None
    assert tried == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096]


def test_a_range_is_kept_to() -> None:
    assert smallest_that_fits(lambda size: True, 8, 64, 512) == 64
    assert smallest_that_fits(lambda size: size >= 200, 8, 64, 512) == 200
    assert smallest_that_fits(lambda size: size >= 500, 8, 64, 504) == 504
    assert smallest_that_fits(lambda size: size >= 513, 8, 64, 512) is None


def test_a_table_reaches_from_the_smallest_to_twice_the_own_size() -> None:
    assert sizes_of_table(152, 8, 2048) == (152, 256, 512, 1024, 2048, 4096)
    assert sizes_of_table(8, 8, 2048) == (8, 256, 512, 1024, 2048, 4096)
    assert sizes_of_table(24, 8, 24) == (24, 32, 48)
    assert sizes_of_table(152, 8, 8) == (152, 256, 512, 1024, 2048, 4096)
    assert sizes_of_table(152, 8, 8, (64, 1000)) == (152, 256, 512, 1000)
