"""RMS norms of plain modules: a kernel for each function, most of them on FP32 (kernels.norm: eager).

As pytorch/torchtitan torchtitan/models/norms.py (9dec370) and the models of huggingface/transformers write it:
weight * (x.float() * rsqrt(mean(x.float()^2) + eps)).to(bf16). Forward: conversion, square, mean, product, conversion, weight.
Backward, as torch derives it: gradient of the normed (1) and of the weight (2), conversion, the product's two gradients (3),
the mean's spread over the width, the square's (3), their sum, conversion. Counted: every function reads its inputs and writes
its result once; one number a token of its own is left out.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from simulator.workload.op import Op, Unit, Work

FORWARD: Final = (2 + 4 + 4 + 4 + 4 + 2, 4 + 4 + 4 + 2 + 2, 8)
"""Bytes read and written of a number of the hidden state, and kernels (two of one number a token)."""
BACKWARD: Final = (
    2 + (4 + 2) + 2 + (4 + 8 + 4) + (4 + 4 + 8) + 8 + 4,
    2 + 2 + 4 + (4 + 4) + 4 + (4 + 4 + 4) + 4 + 2,
    16,
)
FUSED: Final = {"rmsnorm": (2, 2), "rmsnorm_bwd": (4, 2)}
"""The same of one kernel, whose operator is taken apart: what it reads says how many numbers there are."""


def with_plain_norms(unit: Unit) -> Unit:
    """The unit with each norm's bytes and launches as plain modules have them."""
    return replace(unit, blocks={name: tuple(_plain(work) for work in block) for name, block in unit.blocks.items()})


def _plain(work: Work) -> Work:
    if not isinstance(work, Op) or work.shape.op not in FUSED:
        return work
    read, written = FUSED[work.shape.op]
    more_read, more_written, kernels = BACKWARD if work.shape.op == "rmsnorm_bwd" else FORWARD
    numbers = work.bytes_read // read
    reads = work.bytes_read + (more_read - read) * numbers
    writes = work.bytes_written + (more_written - written) * numbers
    shape = replace(work.shape, bytes=reads + writes, num_kernels=kernels)
    return replace(work, shape=shape, bytes_read=reads, bytes_written=writes)
