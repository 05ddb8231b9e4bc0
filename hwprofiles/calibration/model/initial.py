"""First weights: every matrix from a generator of its own, so that they do not depend on what else a process holds."""

from __future__ import annotations

import zlib

import torch
from torch import Tensor, nn


def initialise(module: nn.Module, std: float, seed: int) -> None:
    """Draws every matrix of the module from a normal distribution (0, std), in FP32, and rounds it to the matrix' format.

    A matrix' numbers follow from seed and name, an expert's (3-dim parameters) also from its number in the whole model:
    `first_expert` of the module that holds it plus its place. Biases and vectors keep their first value.
    """
    for prefix, part in module.named_modules():
        for name, weight in part.named_parameters(prefix, recurse=False):
            if weight.ndim < 2 or name.endswith("bias") or weight.is_meta:
                continue
            if weight.ndim == 2:
                _draw(weight, std, f"{seed} {name}")
                continue
            first = getattr(part, "first_expert", 0)
            for number, matrix in enumerate(weight.detach()):
                _draw(matrix, std, f"{seed} {name} {first + number}")


def _draw(matrix: Tensor, std: float, name: str) -> None:
    generator = torch.Generator(matrix.device).manual_seed(zlib.crc32(name.encode()))
    drawn = torch.empty(matrix.shape, dtype=torch.float32, device=matrix.device)
    with torch.no_grad():
        matrix.copy_(drawn.normal_(0.0, std, generator=generator))
