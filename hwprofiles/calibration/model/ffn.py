"""Feed-forward network that every token passes (gated: arXiv:2002.05202)."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial

from torch import Tensor, nn

from hwprofiles.calibration.model import config
from hwprofiles.calibration.model.activation import activate
from hwprofiles.calibration.model.linear import Linear, check_input
from hwprofiles.calibration.model.recompute import made
from hwprofiles.calibration.numerics.gated import can_gate, gated
from hwprofiles.calibration.numerics.numerics import Numerics


class Ffn(nn.Module):
    """y = act(x up^T) down^T; of a gated one up.weight is (2 f, h), the gate's rows first."""

    def __init__(
        self, sizes: config.Ffn, hidden: int, numerics: Numerics, recompute: frozenset[str] = frozenset()
    ) -> None:
        super().__init__()
        self.sizes, self.numerics, self.is_again = sizes, numerics, "swiglu" in recompute
        self.up = Linear(hidden, sizes.num_up * sizes.width, numerics, bias=sizes.bias)
        self.down = Linear(sizes.width, hidden, numerics, bias=sizes.bias, keeps_input=self.is_again)
        self.activate = partial(activate, kind=sizes.activation)

    def forward(self, x: Tensor) -> Tensor:
        """x (..., h) to (..., h)."""
        check_input(x, self.down.weight.shape[0], self.numerics)
        if self._is_gated(x):
            flat = x.reshape(-1, x.shape[-1])
            weights, counts = (self.up.weight, self.down.weight), (len(flat),)
            return gated(self.numerics, flat, *weights, counts, drops_product=self.is_again).view(x.shape)
        with ExitStack() as dropped:
            product = made(dropped, self.is_again, self._product, self.up(x))
            return self.down(product)

    def _is_gated(self, x: Tensor) -> bool:
        """Whether the recipe has both projections and what is between them as one."""
        sizes = self.sizes
        is_swiglu = sizes.activation == "swiglu" and not sizes.bias
        return is_swiglu and can_gate(self.numerics, sizes.width, x.device)

    def _product(self, up: Tensor) -> Tensor:
        """(..., f), the down projection's operand."""
        return self.numerics.rounded(self.activate(up))
