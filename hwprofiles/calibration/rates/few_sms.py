"""Kernels on fewer SMs than the chip has: while another kernel holds some, and library products that keep to a limit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any, Final

import torch

from hwprofiles.calibration.rates import attention, dense, dense_fp8, eager, grouped, norms, own
from hwprofiles.calibration.rates.case import Call, RateCase, Size
from hwprofiles.calibration.rates.held import held, limited
from hwprofiles.calibration.rates.moved import memory_case

HELD: Final = (8, 24, 48)
QUICK_HELD: Final = (20,)
LIMITED: Final = (16, 32)
PART: Final = "few_sms"
LIMITED_LIBRARY: Final = "cublas-limited"
"""Library cell of products that leave SMs free by themselves."""


def cases(device: Any, size: Size) -> Iterator[RateCase]:
    """Each kernel on all SMs, and on what is left of them. quick: three kernels, one number of SMs."""
    all_sms = torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 0
    kernels = list(_kernels(device, size))
    for case in kernels if size == "full" else kernels[:3]:
        yield _on(case, all_sms)
        for num_sms in HELD if size == "full" else QUICK_HELD:
            made = replace(_on(case, max(all_sms - num_sms, 1)), around=partial(held, num_sms))
            yield made if device.type == "cuda" else replace(made, make=_refuse)
    if size == "full":
        yield from _limited(device, all_sms)


def _kernels(device: Any, size: Size) -> Iterator[RateCase]:
    if size == "cpu":
        n, k, rows = 256, 128, 128
        yield dense.fprop(device, rows, n, k)
        yield attention.attention_case(device, "fwd", "cudnn", attention.SMALL[0])
        yield memory_case(device, eager.KERNELS[0], 32, 256)
        return
    yield dense.fprop(device, 4096, 4096, 7168)
    yield attention.attention_case(device, "fwd", "cudnn", attention.Sizes(1, 4096, 32, 32, 128, 128))
    yield memory_case(device, eager.KERNELS[0], 16_384, 4096)
    yield dense.fprop(device, 8192, 7168, 2048)
    yield dense.dgrad(device, 4096, 7168, 16_384)
    yield dense.wgrad(device, 4096, 4096, 7168)
    yield dense_fp8.fp8_case(device, "fp8-block", "fprop", 4096, 4096, 7168)
    yield dense_fp8.fp8_case(device, "fp8-row", "fprop", 8192, 7168, 2048)
    yield own.dense_case(device, "fprop", 4096, 4096, 7168)
    yield grouped.grouped_case(device, "fprop", 4096, 7168, (1024,) * 8)
    yield attention.attention_case(device, "fwd", "fa2", attention.Sizes(1, 4096, 32, 32, 128, 128))
    yield attention.attention_case(device, "bwd", "cudnn", attention.Sizes(1, 4096, 32, 32, 128, 128))
    yield attention.attention_case(device, "fwd", "cudnn", attention.Sizes(1, 4096, 16, 16, 192, 128))
    yield memory_case(device, eager.KERNELS[1], 4096, 7168)
    yield memory_case(device, norms.KERNELS[0], 16_384, 4096)


def _limited(device: Any, all_sms: int) -> Iterator[RateCase]:
    """By torch's experimental setting, where it has one."""
    for num_sms in LIMITED:
        for case in (
            dense.fprop(device, 4096, 4096, 7168),
            dense_fp8.fp8_case(device, "fp8-tensor", "fprop", 4096, 4096, 7168),
            dense_fp8.fp8_case(device, "fp8-block", "fprop", 4096, 4096, 7168),
        ):
            named = replace(case, cells={**case.cells, "library": LIMITED_LIBRARY})
            around = partial(limited, num_sms)
            made = partial(_made_so, named, num_sms)
            yield replace(_on(named, max(all_sms - num_sms, 1)), make=made, around=around)
        left = max(all_sms - num_sms, 1)
        yield _on(own.limited_to(own.dense_case(device, "fprop", 4096, 4096, 7168), left), left)


def _on(case: RateCase, num_sms: int) -> RateCase:
    return replace(case, cells={**case.cells, "part": PART, "sms": num_sms or ""})


def _made_so(case: RateCase, num_sms: int) -> Call:
    """The library's choice of a kernel is made, and loaded, under the limit."""
    if not hasattr(torch._C, "_set_sm_carveout_experimental"):
        raise NotImplementedError("this torch has no limit of SMs for library products")
    call = case.make()
    if torch.cuda.is_available():
        with limited(num_sms):
            call()
    return call


def _refuse() -> Call:
    raise NotImplementedError("SMs are held on CUDA GPUs alone")
