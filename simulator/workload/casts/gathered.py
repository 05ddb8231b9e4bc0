"""Weights that are cast at each use: under FSDP they are gathered in BF16 or FP32 for a pass and let go behind it.

The GEMM of the forward and that of the input gradient each cast the copy that they read, in the micro-batch and in a recompute
alike (pytorch/ao torchao/float8/float8_linear.py; Transformer Engine's linear layers without is_first_microbatch). A scale of
the whole tensor that is taken from the tensor itself is found forward and serves the backward.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

from simulator.workload.casts.joint import JointCasts
from simulator.workload.counting import moved
from simulator.workload.op import Op, Unit, Work
from simulator.workload.tensors import tensor_bytes, weight_bytes

READ_WEIGHTS: Final = ("fprop", "dgrad")


def with_weight_casts(unit: Unit, casts: JointCasts) -> Unit:
    """The unit with the cast of each quantised GEMM's weight in front of it."""
    return replace(unit, blocks={name: tuple(_cast(work, casts)) for name, work in unit.blocks.items()})


def _cast(block: Iterable[Work], casts: JointCasts) -> Iterator[Work]:
    for each in block:
        if isinstance(each, Op) and each.shape.dtype == casts.dtype and each.shape.variant in READ_WEIGHTS:
            count = each.shape.n * each.shape.k * each.shape.groups
            read = tensor_bytes("bf16", count)
            if casts.reads_amax and each.shape.variant == "fprop":
                yield moved(f"{each.name}_weight_amax", "amax", each.phase, read, 0)
            yield moved(f"{each.name}_weight_cast", "quantise", each.phase, read, weight_bytes(casts.dtype, count))
        yield each
