"""Modules that follow one another, each with weights of its own, as in a model: what one of them and its parameter take."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from hwprofiles.calibration.host.core import Case
from hwprofiles.calibration.host.operators import WIDTH, backward

LAYERS: Final = 50
HEADS: Final = 2
CALLS: Final = 20


class _Stack(nn.Module):
    """LAYERS linear layers in a row, whose weights have a gradient or have not."""

    def __init__(self, device: torch.device, *, is_trained: bool) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Linear(WIDTH, WIDTH, bias=False, device=device, dtype=torch.bfloat16) for _ in range(LAYERS))
        )
        self.requires_grad_(is_trained)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return out


class _Norms(nn.Module):
    """LAYERS norms with a scale in a row."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.RMSNorm(WIDTH, device=device, dtype=torch.bfloat16) for _ in range(LAYERS))
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return out


class _Attention(nn.Module):
    """CALLS attention cores in a row, each of what the one before gave."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.given = torch.randn(1, HEADS, WIDTH, WIDTH, device=device, dtype=torch.bfloat16)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(CALLS):
            x = scaled_dot_product_attention(x, self.given, self.given, is_causal=True)
        return x


def cases(device: torch.device) -> Iterator[Case]:
    """All of this file. Gradients of weights are summed, as from the second micro-batch on."""
    row = torch.randn(WIDTH, WIDTH, device=device, dtype=torch.bfloat16)
    heads = torch.randn(1, HEADS, WIDTH, WIDTH, device=device, dtype=torch.bfloat16)
    for name, variant, module, calls, base in (
        ("linear_stack", "trained", _Stack(device, is_trained=True), LAYERS, row),
        ("linear_stack", "frozen", _Stack(device, is_trained=False), LAYERS, row),
        ("norm_stack", "trained", _Norms(device), LAYERS, row),
        ("attention", "core", _Attention(device), CALLS, heads),
    ):
        tracked = partial(_tracked, base)
        yield Case(name, variant, "forward", calls, module, tracked)
        yield Case(name, variant, "backward", calls, backward, partial(_ran, module, tracked))
    yield Case("cast", "float32", "forward", CALLS, partial(_casts, row))
    leaves = [torch.zeros_like(row).requires_grad_() for _ in range(LAYERS)]
    yield Case("accumulate", "parameters", "backward", LAYERS, partial(_accumulate, leaves, row))


def _tracked(base: Tensor) -> Tensor:
    return base.detach().requires_grad_()


def _ran(module: nn.Module, tracked: partial[Tensor]) -> tuple[Tensor, Tensor]:
    """What `backward` takes, behind a forward."""
    out: Tensor = module(tracked())
    return out, torch.ones_like(out)


def _accumulate(leaves: list[Tensor], grad: Tensor, _: None) -> None:
    """The nodes alone that add a gradient to each one's."""
    torch.autograd.backward(leaves, [grad] * len(leaves))


def _casts(x: Tensor, _: None) -> None:
    for _idx in range(CALLS):
        x.to(torch.float32)
