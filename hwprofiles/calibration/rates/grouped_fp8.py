"""Grouped GEMMs of experts in FP8, three passes: by rows as one launch, by blocks as a launch an expert.

What torch's library calls offer, and what the torch model does: a block-wise grouped product does not exist there, and the
result of each expert's is copied to its place (`blockwise_library`): the copy is no part of these times.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any, Final

import torch

from hwprofiles.calibration.measuring import random_bf16
from hwprofiles.calibration.numerics import library
from hwprofiles.calibration.numerics.quantise import TILE, quantise
from hwprofiles.calibration.rates.case import Call, RateCase, Size
from hwprofiles.calibration.rates.dense_fp8 import blocks, by_rows, padded_scales, tiles
from hwprofiles.calibration.rates.grouped import Counts, ends, expert_case, expert_loads, one_by_one, parts
from hwprofiles.kernels.shape import LOOP

PASSES: Final = ("fprop", "dgrad", "wgrad")


def cases(device: Any, size: Size) -> Iterator[RateCase]:
    """The loads of `grouped`: by rows all, by blocks those that are looped there, where sizes and rows fit whole tiles."""
    for number, (n, k, counts, looped) in enumerate(expert_loads(size)):
        for variant in PASSES:
            level = {"fprop": 0, "dgrad": 1, "wgrad": number % 2}[variant] if size == "full" else 0
            yield replace(row_case(device, variant, n, k, counts), level=level)
            is_whole = variant != "wgrad" or not any(count % TILE for count in counts)
            if looped and n % TILE == k % TILE == 0 and is_whole:
                level = int(variant == "dgrad" and size == "full")
                yield replace(block_case(device, variant, n, k, counts), level=level)


def row_case(device: Any, variant: str, n: int, k: int, counts: Counts) -> RateCase:
    """A pass of experts' layers k → n by rows; results in BF16."""
    make = partial(_row_wgrad if variant == "wgrad" else _row, device, *_inner(variant, n, k), counts)
    return expert_case(variant, "fp8-row", "grouped", n, k, counts, 1.0, make)


def block_case(device: Any, variant: str, n: int, k: int, counts: Counts) -> RateCase:
    """The same by blocks; weight gradients in FP32."""
    make = partial(_block_wgrad if variant == "wgrad" else _block, device, *_inner(variant, n, k), counts)
    return expert_case(variant, "fp8-block", LOOP, n, k, counts, 1.0, make, 4.0 if variant == "wgrad" else 2.0)


def _inner(variant: str, n: int, k: int) -> tuple[int, int]:
    """Columns of the result and what is summed over, of wgrad both sides of the result."""
    return (k, n) if variant == "dgrad" else (n, k)


def _row(device: Any, n: int, k: int, counts: Counts) -> Call:
    """(R, n) of rows (R, k) and each expert's (n, k)."""
    _refuse_cpu(device)
    weights, left = quantise(random_bf16(device, len(counts), n, k), (1, k)), by_rows(device, sum(counts), k)
    return _grouped(left[0], weights.values.transpose(1, 2), left[1], weights.scales[..., 0], counts)


def _row_wgrad(device: Any, n: int, k: int, counts: Counts) -> Call:
    """(E, n, k) of transposed rows (n, R) and (k, R), a scale a column of each expert."""
    _refuse_cpu(device)
    rows = sum(counts)
    left, right = by_rows(device, n, rows), by_rows(device, k, rows)
    of_left, of_right = (each[1].repeat(len(counts)) for each in (left, right))
    return _grouped(left[0], right[0].t(), of_left, of_right, counts)


def _grouped(left: Any, right: Any, of_left: Any, of_right: Any, counts: Counts) -> Call:
    """As `library` calls it, but with the ends of the experts' rows on the device already."""
    scales = of_left.contiguous(), of_right.contiguous()
    return partial(torch._scaled_grouped_mm, left, right, *scales, ends(counts, left.device), out_dtype=torch.bfloat16)


def _block(device: Any, n: int, k: int, counts: Counts) -> Call:
    _refuse_cpu(device)
    calls = []
    for count in counts:
        right = blocks(device, n, k)
        left = tiles(device, count, k)
        calls.append(partial(library.tiles_by_blocks, *left, right.values, padded_scales(right.scales)))
    return partial(one_by_one, calls)


def _block_wgrad(device: Any, n: int, k: int, counts: Counts) -> Call:
    """Of each expert (n, k) in FP32: both operands are columns of wider matrices, as the transposed rows of all experts are."""
    _refuse_cpu(device)
    rows = sum(counts)
    left, right = tiles(device, n, rows), tiles(device, k, rows)
    calls = []
    for part in parts(counts):
        of_tiles = slice(part.start // TILE, part.stop // TILE)
        sides = [(side[0][:, part], side[1][:, of_tiles]) for side in (left, right)]
        calls.append(partial(library.tiles_by_tiles, *sides[0], *sides[1]))
    return partial(one_by_one, calls)


def _refuse_cpu(device: Any) -> None:
    if device.type != "cuda":
        raise NotImplementedError("grouped FP8 products: torch has them on CUDA GPUs alone")
