"""One transformer layer: x + attention(norm(x)), then x + ffn(norm(x))."""

from __future__ import annotations

from contextlib import ExitStack

from torch import Tensor, nn

from hwprofiles.calibration.model import config
from hwprofiles.calibration.model.balance import Balancing
from hwprofiles.calibration.model.dispatch import Dispatcher
from hwprofiles.calibration.model.ffn import Ffn
from hwprofiles.calibration.model.gqa import Gqa
from hwprofiles.calibration.model.mla import Mla
from hwprofiles.calibration.model.moe import MoeLayer
from hwprofiles.calibration.model.norm import norm_of
from hwprofiles.calibration.model.recompute import checkpointed, made
from hwprofiles.calibration.numerics.numerics import Numerics


class Layer(nn.Module):
    """balancing, dispatcher: of its experts, where it has some (see `moe.MoeLayer`)."""

    def __init__(
        self, sizes: config.Layer, model: config.ModelConfig, numerics: Numerics, recompute: frozenset[str] = frozenset(),
        balancing: Balancing | None = None, dispatcher: Dispatcher | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.numerics, self.recompute = numerics, recompute
        self.attention_norm = norm_of(model, numerics)
        attention = sizes.attention
        self.attention: nn.Module
        if isinstance(attention, config.Mla):
            self.attention = Mla(attention, model, numerics, recompute)
        else:
            self.attention = Gqa(attention, model, numerics, recompute)
        self.ffn_norm = norm_of(model, numerics)
        self.ffn: nn.Module
        self.has_experts = isinstance(sizes.ffn, config.Moe)
        if isinstance(sizes.ffn, config.Moe):
            self.ffn = MoeLayer(sizes.ffn, model.hidden_size, numerics, balancing, dispatcher, recompute=recompute)
        else:
            self.ffn = Ffn(sizes.ffn, model.hidden_size, numerics, recompute)

    def forward(self, x: Tensor) -> Tensor:
        """x (b, s, h) to (b, s, h)."""
        result: Tensor = checkpointed(self._whole, x) if "layer" in self.recompute else self._whole(x)
        return result

    def attend(self, x: Tensor) -> Tensor:
        """The first half, (b, s, h) to (b, s, h), its input added."""
        with ExitStack() as dropped:
            normed = made(dropped, "rmsnorm" in self.recompute, self.attention_norm, x)
            return self.numerics.rounded(x + self.attention(normed))

    def feed(self, x: Tensor) -> Tensor:
        """The second half, likewise."""
        with ExitStack() as dropped:
            normed = made(dropped, "rmsnorm" in self.recompute, self.ffn_norm, x)
            is_whole = ("moe" if self.has_experts else "mlp") in self.recompute
            return self.numerics.rounded(x + (checkpointed(self.ffn, normed) if is_whole else self.ffn(normed)))

    def _whole(self, x: Tensor) -> Tensor:
        return self.feed(self.attend(x))
