"""Which GPUs of the catalogue are one chip to a kernel, and how far apart the others are."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

from hwprofiles.catalog import list_names, load_gpu
from hwprofiles.schema import Gpu


def kernel_datasheet(gpu: Gpu) -> tuple[Any, ...]:
    """Everything of a datasheet that the time of a kernel depends on: units, peaks, memory and cache, clock and power.

    Power is that of the chip's usual board: a lower limit is a cap.
    Not the memory's size, and no link: H100 and H800 are equal here; B200 and GB200 are not (SMs, clock, watts).
    """
    return (
        gpu.vendor, gpu.family, gpu.num_sms, tuple(sorted(gpu.peak_flop_per_s.items())), gpu.hbm_bytes_per_s, gpu.l2_bytes,
        gpu.boost_clock_hz, gpu.usual_tdp_w or gpu.tdp_w,
    )  # fmt: skip


def is_same_chip(one: Gpu, other: Gpu) -> bool:
    """Whether the two have equal datasheets, as far as kernels go."""
    return kernel_datasheet(one) == kernel_datasheet(other)


@cache
def equal_chips(name: str) -> frozenset[str]:
    """The GPU and those of the catalogue that have its datasheet, as far as kernels go. Raises CatalogError: no such name."""
    sheet = kernel_datasheet(load_gpu(name))
    return frozenset(other for other in list_names("gpus") if kernel_datasheet(load_gpu(other)) == sheet)


def datasheet_distance(one: Gpu, other: Gpu) -> float:
    """How unlike two datasheets are: the sum of |ln ratio| of dense BF16 peak, memory bandwidth and SMs; 0 where all agree."""
    pairs = (
        (one.peak_flop_per_s["bf16"], other.peak_flop_per_s["bf16"]), (one.hbm_bytes_per_s, other.hbm_bytes_per_s),
        (one.num_sms, other.num_sms),
    )  # fmt: skip
    return math.fsum(abs(math.log(a / b)) for a, b in pairs)
