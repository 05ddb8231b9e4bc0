"""The formats in which hidden vectors travel.

as_is: the tensors' own. bf16: rounded to it. fp8: E4M3 in tiles of 1x128 with FP32 scales that are powers of two, as
DeepSeek-V3 dispatches activations, and gradients in front of a down projection (report 3.3.3).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from hwprofiles.calibration.numerics.blockwise_library import fused_kernels
from hwprofiles.calibration.numerics.quantise import FP8, TILE, Quantised, quantise

Wire = Literal["as_is", "bf16", "fp8"]
_ROW: tuple[int, int] = (1, TILE)


def pack(x: Tensor, wire: Wire) -> tuple[Tensor, ...]:
    """What is sent of x (t, h): itself, or FP8's bytes and the scales of its tiles."""
    if wire == "fp8":
        if kernels := fused_kernels(x.device):
            values, scales = kernels.quantise_rows(x, power_of_two=True)
            return values.view(torch.uint8), scales
        sent = quantise(x, _ROW, power_of_two=True)
        return sent.values.view(torch.uint8), sent.scales
    return (x.to(torch.bfloat16) if wire == "bf16" else x,)


def unpack(carried: tuple[Tensor, ...], wire: Wire, hidden: int, dtype: torch.dtype) -> Tensor:
    """(c, hidden) in dtype, from what came of it."""
    if wire == "fp8":
        values, scales = carried
        return Quantised(values.view(FP8), scales, _ROW).numbers[:, :hidden].to(dtype)
    return carried[0].to(dtype)
