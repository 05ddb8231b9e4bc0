"""Whole layers of the torch model with few tokens, so that the host binds: what a kernel costs in code that people write."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import torch
from torch import Tensor, nn

from hwprofiles.calibration.host.core import Case
from hwprofiles.calibration.host.operators import backward
from hwprofiles.calibration.model.config import Ffn, Gqa, Layer, Mla, ModelConfig, Moe
from hwprofiles.calibration.model.transformer import Model
from hwprofiles.calibration.numerics.recipes import numerics

TOKENS: Final = 16
HIDDEN: Final = 512
CHAINED: Final = 4
"""Calls of a sample, each of what the one before gave."""
LOOPED: Final = (4, 16, 64)
"""Experts of a loop."""

_GQA: Final = Gqa(8, 2, 64)
_MLA: Final = Mla(8, 256, 128, 64, 32, 64)
_MOE: Final = Moe(
    num_experts=16, top_k=4, expert=Ffn(256), num_shared=1, num_groups=4, max_groups=2, score="sigmoid", has_bias=True
)  # fmt: skip


def _model(device: torch.device, recipe: str) -> Model:
    config = ModelConfig(
        "host", hidden_size=HIDDEN, vocab_size=256,
        layers=(Layer(_GQA, Ffn(1024)), Layer(_MLA, Ffn(1024)), Layer(_GQA, _MOE)),
    )  # fmt: skip
    return Model(config, numerics(recipe, device), device=device)


def cases(device: torch.device, recipes: tuple[str, ...]) -> Iterator[Case]:
    """Parts of layers in each recipe, and loops over experts."""
    for recipe in recipes:
        model = _model(device, recipe)
        gqa, mla, moe = model.layers
        parts: tuple[tuple[str, nn.Module], ...] = (
            ("norm", gqa.ffn_norm), ("gqa", gqa.attention), ("mla", mla.attention), ("dense_ffn", gqa.ffn),
            ("dense_layer", gqa), ("moe_ffn", moe.ffn), ("moe_layer", moe),
        )  # fmt: skip
        base = torch.randn(1, TOKENS, HIDDEN, device=device).to(model.numerics.dtype)
        for name, part in parts:
            yield from _both(name, recipe, part, base)
    yield from loops(device)


def loops(device: torch.device) -> Iterator[Case]:
    """Loops over so many experts."""
    for number in LOOPED:
        loop = _Loop(number, device)
        base = torch.randn(number, HIDDEN, device=device, dtype=torch.bfloat16)
        yield from _both("expert_loop", f"{number}_experts", loop, base)


def _both(name: str, variant: str, part: nn.Module, base: Tensor) -> Iterator[Case]:
    """Gradients of weights are summed, as from the second micro-batch on."""
    grad = torch.randn_like(base)

    def tracked() -> Tensor:
        return base.detach().requires_grad_()

    def chain(x: Tensor) -> Tensor:
        for _ in range(CHAINED):
            x = part(x)
        return x

    yield Case(name, variant, "forward", CHAINED, chain, tracked)
    yield Case(name, variant, "backward", CHAINED, backward, lambda: (chain(tracked()), grad))


class _Loop(nn.Module):
    """A linear layer an expert over a split, joined again: how libraries without a grouped kernel run one."""

    def __init__(self, number: int, device: torch.device) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Linear(HIDDEN, HIDDEN, bias=False, device=device, dtype=torch.bfloat16) for _ in range(number)
        )
        self.rows = [1] * number

    def forward(self, x: Tensor) -> Tensor:
        parts = torch.split(x, self.rows)
        return torch.cat([layer(part) for layer, part in zip(self.layers, parts, strict=True)])
