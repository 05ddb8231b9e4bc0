"""Token numbers to vectors."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.calibration.model.config import ModelConfig
from hwprofiles.calibration.model.linear import parameter
from hwprofiles.calibration.numerics.numerics import Numerics
from hwprofiles.problem import Problem


def check_range(tokens: Tensor, vocab: int, field: str = "tokens") -> None:
    """Raises CalibrationError for numbers outside the vocabulary, on a CPU."""
    if tokens.device.type == "cpu" and tokens.numel():
        lowest, highest = int(tokens.min()), int(tokens.max())
        if lowest < 0 or highest >= vocab:
            raise CalibrationError(
                [Problem("", field, f"go from {lowest} to {highest}; the vocabulary to {vocab - 1}")]
            )


class Embedding(nn.Module):
    """A row a token, and, where positions are learned, a row a position. weight: (v, h); positions: (length, h)."""

    def __init__(self, model: ModelConfig, numerics: Numerics) -> None:
        super().__init__()
        self.numerics = numerics.plain
        self.weight = parameter(numerics.plain, model.vocab_size, model.hidden_size)
        length = model.learned_positions
        self.positions = parameter(numerics.plain, length, model.hidden_size) if length else None

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens (b, s) int64 to (b, s, h).

        Raises CalibrationError: tokens on another device than the weights, numbers outside the vocabulary (on a GPU torch's
        own assertion stops them: the check would wait for the device), more positions than were learned.
        """
        vocab, length = self.weight.shape[0], tokens.shape[-1]
        if tokens.device != self.weight.device:
            raise CalibrationError(
                [Problem("", "tokens", f"are on {tokens.device}, the model on {self.weight.device}; move them there")]
            )
        check_range(tokens, vocab)
        looked_up = functional.embedding(tokens, self.weight)
        if self.positions is not None:
            if length > self.positions.shape[0]:
                learned = self.positions.shape[0]
                raise CalibrationError([Problem("", "tokens", f"{length} a sequence; learned_positions has {learned}")])
            looked_up = looked_up + self.positions[:length]
        return self.numerics.rounded(looked_up)
