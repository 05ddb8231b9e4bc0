"""One layer of the torch model on a device, and its passes as calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

from hwprofiles.calibration.model.config import ModelConfig
from hwprofiles.calibration.model.head import Head
from hwprofiles.calibration.model.initial import initialise
from hwprofiles.calibration.model.layer import Layer
from hwprofiles.calibration.numerics.numerics import Numerics
from hwprofiles.calibration.numerics.recipes import numerics
from hwprofiles.calibration.proof.forced import forced, without_looks
from hwprofiles.proof_cases.layer_cases import LayerCase
from hwprofiles.proof_cases.sizes import OWN, Products

PASSES: Final = ("F", "B", "I", "W")
"""F: forward. I: gradients of the input alone, the weights being frozen. B: of input and weights. W: of the weights alone
(weights_alone.py)."""
SEED: Final = 20_261_127


@dataclass(frozen=True)
class Built:
    """module: of the parameters; run: x to its result; x: an input; grad: a gradient of the result."""

    module: nn.Module
    run: Callable[[Tensor], Tensor]
    x: Tensor
    grad: Tensor

    def forward(self) -> Tensor:
        """F."""
        return self.run(self.x)

    def backward(self, out: Tensor) -> None:
        """I or B, as `frozen` was said before out was made."""
        weights = [weight for weight in self.module.parameters() if weight.requires_grad]
        torch.autograd.grad(out, (self.x, *weights), self.grad, allow_unused=True)

    def freeze(self, frozen: bool) -> None:
        """Whether weights get no gradients from now on."""
        self.module.requires_grad_(not frozen)


def formats_of(recipe: str, device: torch.device, products: Products = "library") -> Numerics:
    """Of a recipe, on a GPU by these products alone: emulated ones have the numbers, not the times.

    Raises CalibrationError where the GPU has them not.
    """
    is_own = products == "own" and recipe == OWN
    return numerics(recipe, device, ("own" if is_own else "library") if device.type == "cuda" else "auto")


def build(case: LayerCase, device: torch.device) -> Built:
    """Random weights, input and gradient; loads as the case says. Raises CalibrationError, or torch's out-of-memory error."""
    config, formats = ModelConfig.of(case.values), formats_of(case.recipe, device, case.products)
    generator = torch.Generator().manual_seed(SEED)
    dispatcher = forced(case.rows, case.tokens * case.sequences, formats, device) if case.kind == "moe" else None
    shape = (case.sequences, case.tokens, config.hidden_size)
    x = torch.randn(shape, generator=generator).to(device, formats.dtype).requires_grad_()
    with torch.device(device):
        module: nn.Module = (
            Head(config, formats) if case.kind == "head" else Layer(config.layers[0], config, formats, dispatcher=dispatcher)
        )  # fmt: skip
    _keep_measured(module, case)
    initialise(module, config.init_std, seed=1)
    without_looks(module)
    if isinstance(module, Head):
        targets = torch.randint(config.vocab_size, shape[:2], generator=generator).to(device)
        return Built(module, lambda given: module(given, targets), x, torch.ones((), device=device))
    assert isinstance(module, Layer)
    run: Any = module.attend if case.kind in ("mla", "gqa") else module.feed
    return Built(module, run, x, torch.randn(shape, generator=generator).to(device, formats.dtype))


def _keep_measured(module: nn.Module, case: LayerCase) -> None:
    """The half of a layer that does not run has no weights."""
    if isinstance(module, Layer):
        for name in ("ffn", "ffn_norm") if case.kind in ("mla", "gqa") else ("attention", "attention_norm"):
            setattr(module, name, nn.Identity())
