"""W alone: gradients of a layer's weights, without those of activations.

The products, norms and the router of a layer get inputs that need no gradient, and their results are remembered; from those,
and random gradients of them, autograd has only the weights' gradients to make. They are what a split backward leaves for later.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from hwprofiles.calibration.model.norm import LayerNorm, RmsNorm
from hwprofiles.calibration.model.router import Router, weight_grad
from hwprofiles.calibration.numerics.numerics import Numerics


class _Apart(Numerics):
    """The same formats; products take inputs that need no gradient, and what comes behind their results gives them none."""

    def __init__(self, formats: Numerics, results: list[Tensor]) -> None:
        self.formats, self.results = formats, results
        self.name, self.dtype, self.param_dtype = formats.name, formats.dtype, formats.param_dtype

    @property
    def plain(self) -> Numerics:
        return _Apart(self.formats.plain, self.results)

    def rounded(self, x: Tensor) -> Tensor:
        return self.formats.rounded(x)

    def linears(self, x: Tensor, weights: Sequence[Tensor], *, keeps_input: bool = False) -> tuple[Tensor, ...]:
        return self._kept(*self.formats.linears(x.detach(), weights, keeps_input=keeps_input))

    def grouped_linear(self, rows: Tensor, weights: Tensor, counts: Tensor, *, keeps_input: bool = False) -> Tensor:
        return self._kept(self.formats.grouped_linear(rows.detach(), weights, counts, keeps_input=keeps_input))[0]

    def _kept(self, *results: Tensor) -> tuple[Tensor, ...]:
        self.results += results
        return tuple(result.detach() for result in results)


@dataclass
class WeightsAlone:
    """Of a module, which is changed for good. forward: runs it; afterwards `backward` makes the gradients of its weights."""

    module: nn.Module
    run: Callable[[], Any]
    results: list[Tensor] = field(default_factory=list)
    routed: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list)
    """Of each router: a gradient of its logits (t, e), its input (t, h), its weight (e, h)."""

    def __post_init__(self) -> None:
        self.module.requires_grad_(True)
        for part in self.module.modules():
            if isinstance(part, Router):
                part.register_forward_pre_hook(self._of_router)
            elif isinstance(part, RmsNorm | LayerNorm):
                part.register_forward_pre_hook(_contiguous)
                part.register_forward_hook(self._of_norm)
            elif isinstance(formats := getattr(part, "numerics", None), Numerics):
                part.numerics = _Apart(formats, self.results)  # type: ignore[assignment]

    def forward(self) -> list[Tensor]:
        """A gradient for each result that was remembered."""
        self.results.clear()
        self.routed.clear()
        self.run()
        return [torch.randn_like(result) for result in self.results]

    def backward(self, grads: Sequence[Tensor]) -> None:
        """As `gradients`, of which nothing stays."""
        self.gradients(grads)

    def gradients(self, grads: Sequence[Tensor]) -> list[Tensor]:
        """Gradients of all weights. The router's function makes both of its own at once: its weight's is called here."""
        of_routers = {id(weight) for _, _, weight in self.routed}
        weights = [weight for weight in self.module.parameters() if id(weight) not in of_routers]
        found = torch.autograd.grad(self.results, weights, grads)
        return [*found, *(weight_grad(*each).to(torch.float32) for each in self.routed)]

    def _of_norm(self, _: nn.Module, given: Any, result: Tensor) -> Tensor:
        self.results.append(result)
        return result.detach()

    def _of_router(self, router: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        assert isinstance(router, Router)
        x = router.numerics.rounded(given[0].detach())
        self.routed.append((x.new_empty(len(x), len(router.weight)).normal_(), x, router.weight))
        return (x,)


def _contiguous(_: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """A norm copies an input that is part of another tensor before it makes gradients: once in B, for I and W together."""
    return given[0].detach().contiguous(), *given[1:]
