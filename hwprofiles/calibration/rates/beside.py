"""Kernels while another one runs on a second stream of the GPU: beside a copy on some SMs, and such a copy beside products.

The copy has few blocks, as kernels of communication have: one that fills the chip would only take turns with the products.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from typing import Any, Final

import torch

from hwprofiles.calibration.rates import attention, dense, dense_fp8, eager, grouped, norms
from hwprofiles.calibration.rates.case import Call, RateCase, Size
from hwprofiles.calibration.rates.held import MOVED_BYTES, beside, mover, moving
from hwprofiles.calibration.rates.moved import memory_case

PART: Final = "beside"
BLOCKS: Final = (16, 32)
"""SMs that the copy has."""
LIBRARY: Final = "few-blocks"
"""Library cell of the copy."""
PRODUCT: Final = (6144, 4096, 7168)
"""Rows, n, k of the products beside the copy: half a millisecond on an H100, a part of the copy's time."""
LAUNCHES: Final = 900
"""Of the product: for nearly half a second, and fewer than a stream takes before the host waits."""


def cases(device: Any, size: Size) -> Iterator[RateCase]:
    """Each kernel alone, and beside the other one. quick: nothing; few_sms tells that much."""
    if size == "quick":
        return
    all_sms = (
        torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else max(BLOCKS) + 1
    )
    for case in (_small if size == "cpu" else _large)(device):
        yield _beside(case, {}, case.make)
        for blocks in BLOCKS:
            cells, make = {"sms": all_sms - blocks, "beside": "copy"}, case.make if device.type == "cuda" else _refuse
            yield replace(_beside(case, cells, make), around=partial(moving, blocks))
    for blocks in BLOCKS:
        cells = {
            "part": PART, "op": "copy", "dtype": "bf16", "library": LIBRARY, "bytes": 2 * MOVED_BYTES, "launches": 1,
            "sms": blocks,
        }  # fmt: skip
        copy = RateCase(cells, partial(_copy, device, blocks), 2.0 * MOVED_BYTES, light=True)
        yield copy
        yield replace(_beside(copy, {"beside": "gemm"}, copy.make), around=partial(_products, device))


def _beside(case: RateCase, cells: dict[str, Any], make: Any) -> RateCase:
    return replace(case, cells={**case.cells, "part": PART, **cells}, make=make)


def _large(device: Any) -> Iterator[RateCase]:
    yield dense.fprop(device, 8192, 4096, 7168)
    yield dense.fprop(device, 4096, 7168, 2048)
    yield dense.wgrad(device, 4096, 4096, 7168)
    yield dense_fp8.fp8_case(device, "fp8-block", "fprop", 8192, 4096, 7168)
    yield grouped.grouped_case(device, "fprop", 4096, 7168, (1024,) * 8)
    yield attention.attention_case(device, "fwd", "cudnn", attention.Sizes(1, 4096, 32, 32, 128, 128))
    yield memory_case(device, eager.KERNELS[0], 16_384, 4096)
    yield memory_case(device, norms.KERNELS[0], 16_384, 7168)


def _small(device: Any) -> Iterator[RateCase]:
    yield dense.fprop(device, 128, 256, 128)
    yield memory_case(device, eager.KERNELS[0], 32, 256)


def _copy(device: Any, blocks: int) -> Call:
    return mover().once(blocks) if device.type == "cuda" else _refuse()


def _products(device: Any) -> AbstractContextManager[None]:
    return beside(dense.fprop(device, *PRODUCT).make(), LAUNCHES)


def _refuse() -> Call:
    raise NotImplementedError("kernels run beside one another on CUDA GPUs alone")
