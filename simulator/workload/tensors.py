"""What a rank keeps in device memory, by named tensor, and how many bytes each number format takes.

Names are dotted, owner first ("attn.out", "weights.fp8"), so that a breakdown can be summed over layers and
micro-batches.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

BYTE_BITS: Final = 8

FORMAT_BITS: Final = {
    "bf16": 16, "fp32": 32, "fp8-block": 8, "fp8-row": 8, "fp8-tensor": 8, "mxfp8": 8, "e5m6": 12, "nvfp4": 4
}  # fmt: skip
"""Bits of one element. E5M6: DeepSeek-V3 report (arXiv:2412.19437) 3.3.3."""

SCALE_BYTES_PER_BLOCK: Final = {"fp8-block": (4, 128), "e5m6": (4, 128), "mxfp8": (1, 32), "nvfp4": (1, 16)}
"""(bytes of a scale, elements that share it): FP32 for 1x128 tiles (same report, 3.3.2), E8M0 for 32 (OCP MX), E4M3 for 16
(arXiv:2509.25149, 2). A scale of a row or of the whole tensor is few bytes and not counted.
"""

WEIGHT_SCALE_BYTES_PER_BLOCK: Final = {"fp8-block": (4, 128 * 128), "mxfp8": (1, 32), "nvfp4": (1, 16)}
"""As above, of weights: 128x128 blocks share a scale. NVFP4's 16x16 blocks have theirs repeated for each row of 16, as the GEMM
reads it (NVIDIA/TransformerEngine at d0067d0, transformer_engine/common/cast/nvfp4/quantize_transpose_nvfp4.cuh).
"""


def sent_format(gemm_dtype: str) -> str:
    """The format in which FP8 is sent or kept where the layers' GEMMs read `gemm_dtype`: theirs if it has 8 bits, else 1x128
    tiles.
    """
    return gemm_dtype if FORMAT_BITS[gemm_dtype] == BYTE_BITS else "fp8-block"


def tensor_bytes(dtype: str, elements: int) -> int:
    """Bytes of an activation of `elements` numbers, scales included. Raises KeyError for an unknown format."""
    return _bytes(dtype, elements, SCALE_BYTES_PER_BLOCK)


def weight_bytes(dtype: str, elements: int) -> int:
    """Bytes of weights, scales included. Raises KeyError for an unknown format."""
    return _bytes(dtype, elements, WEIGHT_SCALE_BYTES_PER_BLOCK)


def _bytes(dtype: str, elements: int, scales: dict[str, tuple[int, int]]) -> int:
    scale_bytes, block = scales.get(dtype, (0, 1))
    return -(-elements * FORMAT_BITS[dtype] // 8) + scale_bytes * -(-elements // block)


@dataclass(frozen=True, slots=True)
class Tensor:
    """A named tensor. until: the backward pass that reads it last, I (input gradient) or W (weight gradient).

    is_working: a tensor that waits for W and that the working set of I holds too, under a name of its own: a full backward,
    which takes the weight gradient at once, holds it once.
    """

    name: str
    num_bytes: int
    until: Literal["I", "W"] = "I"
    is_working: bool = False


def total_bytes(tensors: Iterable[Tensor]) -> int:
    """Sum of the tensors' bytes."""
    return sum(tensor.num_bytes for tensor in tensors)


@dataclass(frozen=True, slots=True)
class BlockMemory:
    """What one block (the attention or the FFN of a layer, an output head) keeps of one micro-batch.

    saved: allocated by F; those with until="I" are freed by I, the others by W.
    deferred: operands of the weight gradients that exist only from I to W (output gradients, recomputed inputs).
    working_forward, working_backward: tensors that live only while the block's F or I runs, at its fullest instant,
    beside saved and deferred. An upper estimate: kernels that work in place need less.
    outputs: allocated by F and kept to the end of the step, where those of all micro-batches are joined. gradients: of its
    weights, where its first B or W allocates them.
    """

    name: str
    saved: tuple[Tensor, ...]
    deferred: tuple[Tensor, ...] = ()
    working_forward: tuple[Tensor, ...] = ()
    working_backward: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    gradients: tuple[Tensor, ...] = ()
