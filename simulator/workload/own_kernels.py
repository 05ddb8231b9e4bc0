"""This project's FP8 kernels in the place of the library's (kernels.gemm: moesim): products by blocks, dense and grouped, and
what makes their operands. The work is the same; a cast, a permutation or an activation with its cast is one launch.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from hwprofiles.kernels.shape import OWN_GEMMS, OWN_STREAMS
from simulator.workload.op import Op, Unit, Work

DTYPE: Final = "fp8-block"
"""Operands of the products that there are."""
STREAMS: Final = frozenset(
    {"quantise", "quantise_joint", "quantise_transpose", "swiglu", "swiglu_bwd", "permute", "unpermute"}
)
"""Memory-bound kernels that there are."""


def with_own_kernels(unit: Unit, *, streams: bool) -> Unit:
    """The unit with each such operator by this project's kernel. streams: memory-bound ones too."""
    blocks = {name: tuple(_own(work, streams=streams) for work in block) for name, block in unit.blocks.items()}
    return replace(unit, blocks=blocks)


def _own(work: Work, *, streams: bool) -> Work:
    if not isinstance(work, Op):
        return work
    shape = work.shape
    if shape.bound == "gemm" and shape.dtype == DTYPE:
        return replace(work, shape=replace(shape, library=OWN_GEMMS))
    if streams and shape.op in STREAMS:
        return replace(work, shape=replace(shape, library=OWN_STREAMS, num_kernels=1))
    return work
