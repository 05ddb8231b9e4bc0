"""Norms, gated activations and rotary positions: torch's own kernels, written out, compiled, and the torch model's."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch.nn import functional

from hwprofiles.calibration.measuring import random_bf16
from hwprofiles.calibration.model import rope
from hwprofiles.calibration.model.activation import activate
from hwprofiles.calibration.rates.moved import COARSE, COMPILED, Kernel

EPS: Final = 1e-6
HEAD_DIM: Final = 128
SHORT: Final = ((4096, 128), (16_384, 64), (32_768, 128), (65_536, 128))
"""Rows of all heads, width of one: at most FEW_ROWS of kernels/shape.py, down which the gradient of a norm's weight walks."""
WALKED: Final = ((2048, 512), (8192, 512), (2048, 1536), (16_384, 1024), (8192, 2304), (1024, 7168), (2048, 5120))
"""Rows and width of norms of hidden states and latents: 32 columns a block."""
HEADS: Final = ((16_384, 128), (65_536, 64), (131_072, 128), (262_144, 64), (524_288, 128))
"""Rows, width of norms of each head."""


def torch_norm(x: Any, weight: Any) -> Any:
    """RMSNorm by torch's function of this name."""
    return functional.rms_norm(x, x.shape[-1:], weight, EPS)


def eager_norm(x: Any, weight: Any) -> Any:
    """RMSNorm as plain modules write it: in FP32 between two conversions."""
    wide = x.to(torch.float32)
    inverse = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + EPS)
    return weight * (wide * inverse).to(x.dtype)


def swiglu(x: Any) -> Any:
    """Of (r, 2 f), gate beside up."""
    gate, up = x.chunk(2, dim=-1)
    return functional.silu(gate) * up


def swiglu_of_two(gate: Any, up: Any) -> Any:
    """Of gate and up as results of two products."""
    return functional.silu(gate) * up


def own_swiglu(x: Any) -> Any:
    """The torch model's."""
    return activate(x, "swiglu")


def weighted_swiglu(x: Any, row_weights: Any) -> Any:
    """The torch model's of routed experts."""
    return activate(x, "swiglu", row_weights)


def half_rope(x: Any, cos: Any, sin: Any) -> Any:
    """Of x (b, n, s, d), first half of a head turned with the second: x cos + (-x2, x1) sin."""
    first, second = x.chunk(2, dim=-1)
    return (x * cos) + (torch.cat((-second, first), dim=-1) * sin)


def turned_pairs(x: Any, cos: Any, sin: Any) -> Any:
    """Of x (s, n, d), neighbours turned with one another, in FP32: what a fused kernel does."""
    pairs = x.to(torch.float32).unflatten(-1, (-1, 2))
    one, other = pairs[..., 0], pairs[..., 1]
    return torch.stack((one * cos - other * sin, one * sin + other * cos), dim=-1).flatten(-2).to(x.dtype)


def _normed(device: Any, rows: int, width: int) -> tuple[Any, ...]:
    return random_bf16(device, rows, width), torch.ones(width, device=device, dtype=torch.bfloat16)


def _up(device: Any, rows: int, width: int) -> tuple[Any, ...]:
    return (random_bf16(device, rows, 2 * width),)


def _two(device: Any, rows: int, width: int) -> tuple[Any, ...]:
    return random_bf16(device, rows, width), random_bf16(device, rows, width)


def _weighted(device: Any, rows: int, width: int) -> tuple[Any, ...]:
    return random_bf16(device, rows, 2 * width), torch.rand(rows, device=device)


def _heads(device: Any, rows: int, width: int) -> Any:
    """(1, s, n, d)."""
    return random_bf16(device, 1, rows, width // HEAD_DIM, HEAD_DIM)


def _angles(device: Any, rows: int, dim: int, dtype: Any = torch.float32) -> tuple[Any, Any]:
    angles = torch.rand(rows, dim, device=device)
    return angles.cos().to(dtype), angles.sin().to(dtype)


def _own_rope(device: Any, rows: int, width: int) -> tuple[Any, ...]:
    return _heads(device, rows, width), *_angles(device, rows, HEAD_DIM // 2)


def _half_rope(device: Any, rows: int, width: int) -> tuple[Any, ...]:
    cos, sin = _angles(device, rows, HEAD_DIM, torch.bfloat16)
    return _heads(device, rows, width).transpose(1, 2), cos[None, None], sin[None, None]


def _pairs(device: Any, rows: int, width: int) -> tuple[Any, ...]:
    cos, sin = _angles(device, rows, HEAD_DIM // 2)
    return _heads(device, rows, width)[0], cos[:, None], sin[:, None]


KERNELS: Final = (
    Kernel("rmsnorm", "torch", torch_norm, _normed, 4.0, launches=1),
    Kernel("rmsnorm", "torch-heads", torch_norm, _normed, 4.0, launches=1, shapes=HEADS),
    Kernel("rmsnorm_bwd", "torch-heads", torch_norm, _normed, 6.0, (0, 1), launches=3, shapes=HEADS),
    Kernel("rmsnorm_bwd", "torch-heads-input", torch_norm, _normed, 6.0, (0,), launches=1, shapes=HEADS),
    Kernel("rmsnorm_bwd", "torch-heads-weight", torch_norm, _normed, 4.0, (1,), launches=2, shapes=(*HEADS, *SHORT)),
    Kernel("rmsnorm", "eager", eager_norm, _normed, shapes=COARSE),
    Kernel("rmsnorm", "compiled", eager_norm, _normed, 4.0, shapes=COMPILED),
    Kernel("rmsnorm_bwd", "torch", torch_norm, _normed, 6.0, (0, 1), launches=3),
    Kernel("rmsnorm_bwd", "torch-input", torch_norm, _normed, 6.0, (0,), launches=1, shapes=COARSE),
    Kernel("rmsnorm_bwd", "torch-weight", torch_norm, _normed, 4.0, (1,), launches=2, shapes=(*COARSE, *WALKED)),
    Kernel("rmsnorm_bwd", "eager", eager_norm, _normed, wrt=(0, 1), shapes=COARSE),
    Kernel("rmsnorm_bwd", "compiled", eager_norm, _normed, 6.0, (0, 1), launches=2, shapes=COMPILED),
    Kernel("swiglu", "torch", swiglu, _up, shapes=COARSE),
    Kernel("swiglu", "torch-apart", swiglu_of_two, _two, shapes=COARSE),
    Kernel("swiglu", "compiled", swiglu, _up, 6.0, shapes=COMPILED),
    Kernel("swiglu", "moesim", own_swiglu, _up, shapes=COARSE),
    Kernel("swiglu", "moesim", weighted_swiglu, _weighted, variant="weighted", shapes=COARSE),
    Kernel("swiglu_bwd", "torch", swiglu, _up, wrt=(0,), shapes=COARSE),
    Kernel("swiglu_bwd", "torch-apart", swiglu_of_two, _two, wrt=(0, 1), shapes=COARSE),
    Kernel("swiglu_bwd", "compiled", swiglu, _up, 10.0, (0,), shapes=COMPILED),
    Kernel("swiglu_bwd", "moesim", own_swiglu, _up, wrt=(0,), shapes=COARSE),
    Kernel("swiglu_bwd", "moesim", weighted_swiglu, _weighted, wrt=(0, 1), variant="weighted", shapes=COARSE),
    Kernel("rope", "moesim", rope.apply, _own_rope, shapes=COARSE),
    Kernel("rope", "torch", half_rope, _half_rope, shapes=COARSE),
    Kernel("rope", "compiled", turned_pairs, _pairs, 4.0, shapes=COMPILED),
    Kernel("rope", "moesim", rope.apply, _own_rope, wrt=(0,), variant="bwd", shapes=COARSE),
    Kernel("rope", "torch", half_rope, _half_rope, wrt=(0,), variant="bwd", shapes=COARSE),
)
"""torch-input, torch-weight: one gradient without the other; torch-heads: of many short rows. per_number: of fused kernels: the
operand and the result (of gradients also what the forward read), each once."""
