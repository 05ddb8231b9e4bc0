"""This project's kernels that make operands of FP8 products: quantised by rows, transposed, both; activated; permuted and back.

Bytes as the simulator counts them: operands with their scales and results, each once. Triton is not everywhere: it is imported
where a kernel runs.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

import torch

from hwprofiles.calibration.measuring import random_bf16
from hwprofiles.calibration.rates.casts import IN_FP8, WEIGHTS, WHOLE_TILES, tiles_of_rows
from hwprofiles.calibration.rates.moved import COARSE, GRID, Kernel
from hwprofiles.calibration.rates.rows import TOP_K
from hwprofiles.kernels.shape import OWN_STREAMS

DTYPE: Final = "fp8-block"


def by_rows(x: Any) -> Any:
    """1x128."""
    return _kernels("streams", x).quantise_rows(x)


def by_columns(x: Any, sources: Any) -> Any:
    """128x1 and transposed."""
    return _kernels("streams", x).quantise_columns(x, None, x.shape[1], sources, 16)


def both_ways(x: Any, sources: Any) -> Any:
    """Of one reading."""
    return _kernels("streams", x).quantise_both(x, sources)


def activated(x: Any, weights: Any) -> Any:
    """SwiGLU times the rows' weights, 1x128."""
    return _kernels("swiglu", x).swiglu_quantise(x, weights)


def columns_again(values: Any, scales: Any, sources: Any) -> Any:
    """128x1 and transposed, of tiles 1x128 kept from the forward."""
    return _kernels("streams", values).quantise_columns(values, scales, values.shape[1], sources, 16)


def blocks(weights: Any) -> Any:
    """128x128, and the transposed copy."""
    return _kernels("streams", weights).quantise_blocks(weights.unsqueeze(0))


def activated_back_both(x: Any, grad: Any, sources: Any, weights: Any) -> Any:
    """SwiGLU's gradient 1x128, and 128x1 transposed."""
    return _kernels("swiglu", x).swiglu_backward_quantise(x, grad, sources, weights)


def quantised_to_experts(x: Any, places: Any) -> Any:
    """Each token's numbers 1x128 to TOP_K rows."""
    return _kernels("permuting", x).permute_quantise(x, places, places.numel())


def activated_back(x: Any, grad: Any, weights: Any) -> Any:
    """Its gradient in BF16, and the weights'."""
    return _kernels("swiglu", x).swiglu_backward(x, grad, weights)


def to_experts(values: Any, scales: Any, places: Any) -> Any:
    """FP8 rows, each to one place."""
    return _kernels("permuting", values).permute_quantised(values, scales, places, len(places))


def from_experts(rows: Any, places: Any, weights: Any) -> Any:
    """Weighted sums of TOP_K rows."""
    return _kernels("permuting", rows).unpermute(rows, places, weights)


def _x(device: Any, rows: int, width: int) -> tuple[Any, ...]:
    return (random_bf16(device, rows, width),)


def _sourced(device: Any, rows: int, width: int) -> tuple[Any, ...]:
    return random_bf16(device, rows, width), torch.arange(rows, device=device)


def _gated(device: Any, rows: int, width: int) -> tuple[Any, ...]:
    return random_bf16(device, rows, 2 * width), torch.rand(rows, device=device)


def _gated_back(device: Any, rows: int, width: int) -> tuple[Any, ...]:
    x, weights = _gated(device, rows, width)
    return x, random_bf16(device, rows, width), weights


def _in_fp8(device: Any, rows: int, width: int) -> tuple[Any, ...]:
    return *tiles_of_rows(random_bf16(device, rows, width)), torch.arange(rows, device=device)


def _wide(device: Any, rows: int, width: int) -> tuple[Any, ...]:
    return (torch.randn(rows, width, device=device),)


def _gated_back_both(device: Any, rows: int, width: int) -> tuple[Any, ...]:
    x, grad, weights = _gated_back(device, rows, width)
    return x, grad, torch.arange(rows, device=device), weights


def _tokens(device: Any, rows: int, width: int) -> tuple[Any, ...]:
    return random_bf16(device, rows, width), torch.randperm(rows * TOP_K, device=device).view(rows, TOP_K)


def _sent(device: Any, rows: int, width: int) -> tuple[Any, ...]:
    return *tiles_of_rows(random_bf16(device, rows, width)), torch.randperm(rows, device=device).view(rows, 1)


def _returned(device: Any, rows: int, width: int) -> tuple[Any, ...]:
    places = torch.randperm(rows, device=device).view(-1, TOP_K)
    return random_bf16(device, rows, width), places, torch.rand(rows // TOP_K, TOP_K, device=device)


def _kernels(name: str, x: Any) -> Any:
    """A module of them, for x."""
    if not x.is_cuda:
        raise NotImplementedError("this project's kernels are timed on CUDA GPUs alone: a CPU interprets them")
    return import_module(f"hwprofiles.calibration.kernels.{name}")


def _kernel(
    op: str, function: Any, operands: Any, per_number: float, shapes: Any = COARSE, variant: str = ""
) -> Kernel:
    return Kernel(
        op, OWN_STREAMS, function, operands, per_number, variant=variant, dtype=DTYPE, shapes=shapes, launches=1
    )


KERNELS: Final = (
    _kernel("quantise", by_rows, _x, 2.0 + IN_FP8, GRID),
    _kernel("quantise_transpose", by_columns, _sourced, 2.0 + IN_FP8, WHOLE_TILES),
    _kernel("quantise_joint", both_ways, _sourced, 2.0 + 2.0 * IN_FP8),
    _kernel("swiglu", activated, _gated, 4.0 + IN_FP8),
    _kernel("swiglu_bwd", activated_back, _gated_back, 4.0 + 2.0 + 4.0),
    _kernel("permute", to_experts, _sent, 2.0 * IN_FP8),
    _kernel("unpermute", from_experts, _returned, 2.0 + 2.0 / TOP_K),
    _kernel("quantise", blocks, _wide, 4.0 + 2.0, WEIGHTS, "weight"),
    _kernel("quantise_transpose", columns_again, _in_fp8, 2.0 * IN_FP8, COARSE, "of-fp8"),
    _kernel("swiglu_bwd", activated_back_both, _gated_back_both, 4.0 + 2.0 + 4.0 * IN_FP8, COARSE, "both"),
    _kernel("permute", quantised_to_experts, _tokens, 2.0 + TOP_K * IN_FP8, COARSE, "cast"),
)
