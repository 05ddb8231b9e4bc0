"""Multi-token prediction (DeepSeek-V3, arXiv:2412.19437, 2.2): module k predicts, at each position, the token 1 + k ahead."""

from __future__ import annotations

from contextlib import ExitStack

import torch
from torch import Tensor, nn

from hwprofiles.calibration.model.config import ModelConfig
from hwprofiles.calibration.model.linear import Linear
from hwprofiles.calibration.model.norm import norm_of
from hwprofiles.calibration.model.recompute import checkpointed, made
from hwprofiles.calibration.numerics.numerics import Numerics


class Mtp(nn.Module):
    """h' = layer(projection [norm(h); norm(embedding of the token k ahead)]) (equations 21 and 22 there).

    Embedding and head are the main model's; `norm` stands before the head. layer: made without recompute of the whole layer:
    under it the module runs again whole, projection and layer.
    """

    def __init__(
        self, model: ModelConfig, layer: nn.Module, numerics: Numerics, recompute: frozenset[str] = frozenset()
    ) -> None:
        super().__init__()
        self.are_norms_again, self.is_again = "rmsnorm" in recompute, "layer" in recompute
        self.numerics = numerics
        self.hidden_norm, self.embedding_norm = norm_of(model, numerics), norm_of(model, numerics)
        self.projection = Linear(2 * model.hidden_size, model.hidden_size, numerics, keeps_input=self.are_norms_again)
        self.layer = layer
        self.norm = norm_of(model, numerics.plain)

    def forward(self, hidden: Tensor, embedded: Tensor) -> Tensor:
        """hidden (b, s, h), of the last layer or the module before; embedded (b, s, h), of the tokens k ahead: (b, s, h)."""
        result: Tensor = checkpointed(self._whole, hidden, embedded) if self.is_again else self._whole(hidden, embedded)
        return result

    def _whole(self, hidden: Tensor, embedded: Tensor) -> Tensor:
        with ExitStack() as dropped:
            joined = made(dropped, self.are_norms_again, self._joined, hidden, embedded)
            projected = self.projection(joined)
        result: Tensor = self.layer(projected)
        return result

    def _joined(self, hidden: Tensor, embedded: Tensor) -> Tensor:
        """(b, s, 2h)."""
        return torch.cat((self.hidden_norm(hidden), self.embedding_norm(embedded)), dim=-1)
