"""Functions of torch that quantise rows by columns and count rows of experts: recipe fp8-row and the router of the torch model.

A largest number of each column of fewer than SPLIT rows is one thread's walk down a column (torch, Reduce.cuh; above,
blocks share the rows out), so that its time is the rows', whatever their width: library torch-largest-few.
The gradient of a norm's weight walks likewise (norms.py).
"""

from __future__ import annotations

from typing import Any, Final

import torch

from hwprofiles.calibration.measuring import random_bf16
from hwprofiles.calibration.rates.moved import COARSE, Kernel

SPLIT: Final = 1024
EXPERTS: Final = 64
FEW: Final = ((128, 1280), (256, 5120), (512, 640), (960, 1280))
MANY: Final = ((1024, 2304), (2048, 1536), (4096, 5120), (16_384, 4096))
COUNTS: Final = ((16_384, 1), (65_536, 1), (131_072, 1))


def largest_of_columns(x: Any) -> Any:
    """In x's format. Sizes that were just written are in the level-2 cache, which the walk feels: both functions together."""
    return x.abs().amax(0)


def quotients_by_columns(x: Any, scales: Any) -> Any:
    """In FP32."""
    return x / scales


def scales_of_rows(scales: Any, owners: Any) -> Any:
    """Of each row's expert."""
    return scales.index_select(0, owners)


def placed(to: Any, places: Any, x: Any) -> Any:
    """Rows copied where `to` has them."""
    return to.index_copy_(0, places, x)


def counted(experts: Any, ones: Any) -> Any:
    """How often each expert stands there."""
    return torch.zeros(EXPERTS, dtype=torch.int64, device=experts.device).scatter_add_(0, experts, ones)


def _x(device: Any, rows: int, width: int) -> tuple[Any, ...]:
    return (random_bf16(device, rows, width),)


def _with_scales(device: Any, rows: int, width: int) -> tuple[Any, ...]:
    return random_bf16(device, rows, width), torch.rand(1, width, device=device) + 0.5


def _owned(device: Any, rows: int, width: int) -> tuple[Any, ...]:
    return torch.rand(EXPERTS, width, device=device), torch.arange(rows, device=device) * EXPERTS // rows


def _spread(device: Any, rows: int, width: int) -> tuple[Any, ...]:
    more = rows + 16
    return random_bf16(device, more, width), torch.arange(rows, device=device), random_bf16(device, rows, width)


def _chosen(device: Any, rows: int, width: int) -> tuple[Any, ...]:
    return torch.randint(0, EXPERTS, (rows * width,), device=device), torch.ones(
        rows * width, dtype=torch.int64, device=device
    )


KERNELS: Final = (
    Kernel("reduce_columns", "torch-largest", largest_of_columns, _x, shapes=MANY),
    Kernel("reduce_columns", "torch-largest-few", largest_of_columns, _x, shapes=FEW),
    Kernel("elementwise_mixed", "torch-by-columns", quotients_by_columns, _with_scales, shapes=COARSE),
    Kernel("gather_rows", "torch-of-few", scales_of_rows, _owned, 4.0, launches=1, dtype="fp32", shapes=COARSE),
    Kernel("scatter_rows", "torch-placed", placed, _spread, 4.0, launches=1, shapes=COARSE),
    Kernel("scatter_rows", "torch-counted", counted, _chosen, 16.0, launches=2, dtype="fp32", shapes=COUNTS),
)
"""torch-of-few: the table that is looked up stays in the level-2 cache; its results alone are counted."""
