"""Kernels while another one runs on a second stream of the GPU: products beside a copy, a copy beside products."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from typing import Any, Final

from hwprofiles.calibration.rates import attention, dense, dense_fp8, eager, grouped, norms
from hwprofiles.calibration.rates.case import Call, RateCase, Size
from hwprofiles.calibration.rates.held import beside
from hwprofiles.calibration.rates.moved import memory_case

PART: Final = "beside"
LAUNCHES: Final = {"copy": 600, "gemm": 900}
"""That run beside: for half a second to a second, and fewer than a stream takes before the host waits."""
COPIED: Final = (65_536, 8192)
"""Rows, width of the copy beside: 0.7 ms on an H100."""
PRODUCT: Final = (8192, 7168, 8192)
"""Rows, n, k of the product beside: about as long."""


def cases(device: Any, size: Size) -> Iterator[RateCase]:
    """Each kernel alone, and beside the other one. quick: nothing; few_sms tells that much."""
    if size == "quick":
        return
    products, streams = (_small if size == "cpu" else _large)(device)
    for cases_of, name in ((products, "copy"), (streams, "gemm")):
        for case in cases_of:
            yield replace(case, cells={**case.cells, "part": PART})
            cells = {**case.cells, "part": PART, "beside": name}
            make = case.make if device.type == "cuda" else _refuse
            yield replace(case, cells=cells, make=make, around=partial(_beside, device, name))


def _large(device: Any) -> tuple[list[RateCase], list[RateCase]]:
    copy, norm = eager.KERNELS[0], norms.KERNELS[0]
    products = [
        dense.fprop(device, 8192, 4096, 7168),
        dense.fprop(device, 4096, 7168, 2048),
        dense.wgrad(device, 4096, 4096, 7168),
        dense_fp8.fp8_case(device, "fp8-block", "fprop", 8192, 4096, 7168),
        grouped.grouped_case(device, "fprop", 4096, 7168, (1024,) * 8),
        attention.attention_case(device, "fwd", "cudnn", attention.Sizes(1, 4096, 32, 32, 128, 128)),
    ]
    return products, [memory_case(device, copy, 16_384, 4096), memory_case(device, norm, 16_384, 7168)]


def _small(device: Any) -> tuple[list[RateCase], list[RateCase]]:
    return [dense.fprop(device, 128, 256, 128)], [memory_case(device, eager.KERNELS[0], 32, 256)]


def _beside(device: Any, name: str) -> AbstractContextManager[None]:
    other = (memory_case(device, eager.KERNELS[0], *COPIED) if name == "copy" else dense.fprop(device, *PRODUCT)).make()
    return beside(other, LAUNCHES[name])


def _refuse() -> Call:
    raise NotImplementedError("kernels run beside one another on CUDA GPUs alone")
