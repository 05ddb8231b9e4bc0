"""The torch model's optimizer: AdamW by torch's fused kernel, a call a parameter, and what else happens to weights then.

A parameter is what has a weight gradient in the stage's units: the weights of a product, experts of a layer together, a norm's,
the embedding. BF16 ones are copied from their FP32 masters; FP8's are FP32 themselves, quantised when a step first reads them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from simulator.workload.modules.chains import FP32, TORCH, chain, narrowed, small
from simulator.workload.modules.moesim_fp8 import PLAIN
from simulator.workload.op import Op, StageWorkload

STATE: Final = 7 * FP32
"""Bytes of a parameter: gradient read; master and both moments read and written."""
COUNTED: Final = 2
"""Launches of a call before its kernel: a counter of steps is filled, and counted up."""


def optimizer_ops(stage: StageWorkload, hidden: int, vocabulary: int) -> Iterator[Op]:
    """Of all parameters of a rank. hidden, vocabulary: sizes of the model; a norm is as wide as the hidden state, nearly."""
    for name, numbers, is_quantised in _parameters(stage, hidden, vocabulary):
        if numbers <= hidden:  # of a vector: less than one block of the kernel has to do
            yield small(f"{name}_adamw", "W", STATE * numbers, COUNTED + 2)
            continue
        yield chain(f"{name}_adamw", "adamw", "W", STATE * numbers, elements=numbers, library=TORCH, dtype="fp32")
        yield small(f"{name}_count", "W", 3 * FP32, COUNTED)
        if not is_quantised:
            yield narrowed(f"{name}_weight", numbers, "W")


def _parameters(stage: StageWorkload, hidden: int, vocabulary: int) -> Iterator[tuple[str, int, bool]]:
    """Name, numbers, whether its product reads it in FP8. Head and embedding of a further prediction are the model's own."""
    for unit in stage.units:
        is_mtp, is_head = unit.name.startswith("mtp"), unit.kind == "head"
        for op in unit.ops():
            stem = op.name.removesuffix("_wgrad")
            if stem == op.name or (is_mtp and (stem == "embedding" or (is_head and stem == "head"))):
                continue
            if op.shape.bound == "gemm":
                groups = op.shape.groups if op.shape.op == "grouped_gemm" else 1
                yield stem, op.shape.m * op.shape.n * groups, op.shape.dtype != "bf16" and stem not in PLAIN
            elif stem == "embedding":
                yield stem, vocabulary * hidden, False
            elif stem.endswith("norm"):
                yield stem, hidden, False
