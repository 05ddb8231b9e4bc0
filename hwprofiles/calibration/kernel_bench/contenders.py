"""Who takes part in a product: this project's kernels, and what torch's library calls offer for the same work.

moesim          the kernel that is chosen (CUDA on Hopper, else Triton)    moesim-triton   Triton's, where CUDA's was chosen
moesim-added    wgrad that adds into what is there
torch-block     scaled_mm, block-wise scales (cuBLAS); padded as the model pads
torch-unpadded  the same with the layer's own n, where that is no multiple of 128
torch-row       _scaled_grouped_mm, a scale a row: no promotion, the kernel that groups have
torch-loop      torch-block, a launch a group
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

import torch

from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.calibration.kernel_bench.operands import Operands, slices
from hwprofiles.calibration.kernels import products
from hwprofiles.calibration.numerics import library
from hwprofiles.calibration.numerics.quantise import TILE
from hwprofiles.calibration.rates.dense_fp8 import padded_scales

Call = Callable[[], Any]
OWN: Final = "moesim"
BLOCK, ROW, LOOPED = "torch-block", "torch-row", "torch-loop"
Made = tuple[str, Callable[[], Call]]
"""Name, and what makes the call: it may raise where the library cannot run it."""


def contenders(operands: Operands) -> Iterator[Made]:
    """Of a product, this project's first."""
    product, device = operands.product, operands.left.device
    which: products.Product = "wgrad" if operands.is_wgrad else "gemm"
    yield OWN, partial(own, operands, "auto")
    if products.chosen("auto", which, device) != "triton" and not products.reason_against_triton(device):
        yield f"{OWN}-triton", partial(own, operands, "triton")
    if operands.is_wgrad:
        yield f"{OWN}-added", partial(own, operands, "auto", accumulate=True)
    if device.type != "cuda":
        return
    if product.is_grouped:
        yield ROW, partial(_grouped_rows, operands)
        if not operands.is_wgrad or not any(count % TILE for count in product.counts):
            yield LOOPED, partial(_looped, operands)
    else:
        yield BLOCK, partial(_block, operands)
        if product.n % TILE and product.variant == "fprop":
            yield "torch-unpadded", partial(_block, operands, product.n)


def own(operands: Operands, kernel: products.Kernel, *, accumulate: bool = False) -> Call:
    """A product into memory that is there."""
    left, right = operands.own
    if not operands.is_wgrad:
        out = torch.empty(len(left.values), right.values.shape[1], dtype=torch.bfloat16, device=left.values.device)
        return partial(products.fprop, left, right, _ends(operands), out=out, kernel=kernel)
    sizes = len(operands.product.counts), len(left.values), len(right.values)
    out = torch.zeros(sizes, device=left.values.device)
    return partial(products.wgrad, left, right, _ends(operands), out=out, accumulate=accumulate, kernel=kernel)


def _ends(operands: Operands) -> Any:
    """On the device, as a training step has them."""
    groups = operands.groups.padded(TILE) if operands.is_wgrad else operands.groups
    return torch.tensor(groups.counts).cumsum(0).to(torch.int32).to(operands.left.device)


def _block(operands: Operands, columns: int = 0) -> Call:
    """cuBLAS with scales of blocks; columns: of the result, if not all."""
    if operands.is_wgrad:
        grads, inputs = operands.columns
        return partial(library.tiles_by_tiles, grads.values, grads.scales.t(), inputs.values, inputs.scales.t())
    left, right = operands.tiles, operands.blocks
    values = right.values[0, : columns or None]
    return partial(library.tiles_by_blocks, left.values, left.scales, values, padded_scales(right.scales[0]))


def _grouped_rows(operands: Operands) -> Call:
    """torch's grouped product. Raises CalibrationError where its groups of tokens are not aligned."""
    (left, of_left), (right, of_right) = operands.rows_alone
    counts, ends = operands.product.counts, operands.groups
    end = torch.tensor(ends.counts).cumsum(0).to(torch.int32).to(left.device)
    if not operands.is_wgrad:
        scales = of_left.contiguous(), of_right.contiguous()
        return partial(torch._scaled_grouped_mm, left, right.transpose(1, 2), *scales, end, out_dtype=torch.bfloat16)
    if any(count % library.ALIGNED for count in counts):
        raise CalibrationError(f"torch._scaled_grouped_mm: rows {counts} of a weight gradient are no multiples of 16")
    scales = of_left.repeat(len(counts)), of_right.repeat(len(counts))
    return partial(torch._scaled_grouped_mm, left, right.t(), *scales, end, out_dtype=torch.bfloat16)


def _looped(operands: Operands) -> Call:
    """cuBLAS, a launch a group; rows are padded to 4."""
    calls: list[Call] = []
    if operands.is_wgrad:
        left, right = operands.columns
        for part in slices(operands.groups.padded(TILE).counts):
            tiles = slice(part.start // TILE, part.stop // TILE)
            grads, inputs = ((side.values[:, part], side.scales[tiles].t()) for side in (left, right))
            calls.append(partial(library.tiles_by_tiles, *grads, *inputs))
        return partial(_one_by_one, calls)
    rows, blocks = operands.tiles, operands.blocks
    aligned = operands.groups.padded(library.SCALE_ALIGNED)
    values = operands.groups.spread(rows.values.view(torch.uint8), aligned).view(rows.values.dtype)
    scales = operands.groups.spread(rows.scales, aligned)
    for idx, part in enumerate(slices(aligned.counts)):
        if part.stop > part.start:
            of_rows = library.rows_innermost(scales[part])
            matrix, of_matrix = blocks.values[idx], padded_scales(blocks.scales[idx])
            calls.append(partial(library.tiles_by_blocks, values[part], of_rows, matrix, of_matrix))
    return partial(_one_by_one, calls)


def _one_by_one(calls: list[Call]) -> None:
    for call in calls:
        call()
