"""Routing whose loads are given: the kernels of the router and the permutation run as ever, rows go where they are sent.

So a load of experts can be measured as it was said, and nothing has to be read back from the GPU before the experts run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from hwprofiles.calibration.model.dispatch import LocalDispatch, Placed
from hwprofiles.calibration.model.router import Router, Routing
from hwprofiles.calibration.numerics.fp8 import Fp8
from hwprofiles.calibration.numerics.numerics import Numerics


class ForcedDispatch(LocalDispatch):
    """LocalDispatch with experts (t, k) of its own. on_host: counts are given on the CPU, where FP8 products read them."""

    def __init__(self, experts: Tensor, num_experts: int, *, on_host: bool) -> None:
        self.experts, self.on_host = experts, on_host
        self.counts = torch.bincount(experts.flatten().cpu(), minlength=num_experts)

    def place(self, routing: Routing) -> Placed:
        placed = super().place(replace(routing, experts=self.experts))
        return replace(placed, counts=self.counts) if self.on_host else placed


def forced(counts: Sequence[int], tokens: int, numerics: Numerics, device: torch.device) -> ForcedDispatch:
    """A dispatcher that gives expert i counts[i] rows, as of `experts_of`."""
    experts = experts_of(counts, tokens).to(device)
    return ForcedDispatch(experts, len(counts), on_host=isinstance(numerics, Fp8))


def experts_of(counts: Sequence[int], tokens: int) -> Tensor:
    """(tokens, k): expert i has counts[i] rows, each token's experts are different where no count is above tokens."""
    slots = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    return slots.view(-1, tokens).t().contiguous()


def without_looks(module: nn.Module) -> None:
    """Its routers do not look for NaN in their scores, for which the host would wait for the GPU."""
    for part in module.modules():
        if isinstance(part, Router):
            part.is_checked = False
