"""What several of the torch model's tests compare with."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from hwprofiles.calibration.model.initial import initialise

WIDE = torch.float64


def normal(*shape: int, seed: int = 0) -> Tensor:
    """float64 numbers of a normal distribution, a leaf that asks for its gradient."""
    return torch.randn(shape, dtype=WIDE, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def drawn(module: nn.Module, std: float = 0.2, seed: int = 1) -> nn.Module:
    """The module with every parameter drawn, vectors too: a fault in a norm's weight or a bias must show."""
    initialise(module, std, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in module.parameters():
            if weight.ndim == 1:
                weight.add_(0.3 * torch.randn(weight.shape, generator=generator).to(weight.dtype))
    return module


def assert_same(
    fast: Callable[..., Tensor], plain: Callable[..., Tensor], inputs: Sequence[Tensor], module: nn.Module | None = None
) -> None:
    """Both functions give the same values and gradients, of the inputs and of the module's parameters, to float64's digits."""
    leaves = [*inputs, *(module.parameters() if module else ())]
    results = fast(*inputs), plain(*inputs)
    torch.testing.assert_close(results[0], results[1].to(results[0].dtype), rtol=1e-10, atol=1e-12)
    weights = normal(*results[0].shape, seed=99).detach()
    ours, theirs = (torch.autograd.grad((result * weights).sum(), leaves) for result in results)
    for number, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
        assert other.abs().max() > 0, f"leaf {number} has no gradient to compare"
        torch.testing.assert_close(mine, other, rtol=1e-9, atol=1e-11)
