"""The whole model: embedding, layers, head, modules that predict more tokens; and its losses."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.calibration.model.balance import Balancing
from hwprofiles.calibration.model.config import ModelConfig
from hwprofiles.calibration.model.dispatch import Dispatcher
from hwprofiles.calibration.model.embedding import Embedding, check_range
from hwprofiles.calibration.model.head import Head
from hwprofiles.calibration.model.initial import initialise
from hwprofiles.calibration.model.layer import Layer
from hwprofiles.calibration.model.mtp import Mtp
from hwprofiles.calibration.model.recompute import checked
from hwprofiles.calibration.numerics.device import usable_device
from hwprofiles.calibration.numerics.numerics import Numerics
from hwprofiles.problem import Problem


@dataclass(frozen=True, slots=True)
class Losses:
    """Mean cross-entropies of a micro-batch, nats a token, FP32 scalars: of the next token, and of each MTP module's."""

    main: Tensor
    mtp: tuple[Tensor, ...] = ()

    def total(self, mtp_weight: float = 0.3) -> Tensor:
        """What is trained: main + mtp_weight times the modules' mean (DeepSeek-V3 report, equation 25; 0.3: section 4.2)."""
        return self.main + mtp_weight * torch.stack(self.mtp).mean() if self.mtp else self.main


class Model(nn.Module):
    """A decoder-only transformer. parts: embedding, layers, head, MTP modules, in the order in which they run.

    balancing, dispatcher: of the layers' experts (`moe.MoeLayer`). recompute: of `recompute.MODULES`. seed: of the first
    weights; the same seed gives other numbers on a GPU than on a CPU.
    """

    def __init__(
        self, config: ModelConfig, numerics: Numerics, *, recompute: Collection[str] = (), balancing: Balancing | None = None,
        dispatcher: Dispatcher | None = None, seed: int = 0, device: torch.device | str = "cpu",
    ) -> None:  # fmt: skip
        super().__init__()
        self.config, self.numerics = config, numerics
        modules = checked(frozenset(recompute))

        def layer(number: int, again: frozenset[str] = modules) -> Layer:
            return Layer(config.layers[number], config, numerics, again, balancing, dispatcher)

        with usable_device(device):
            embedding = Embedding(config, numerics)
            layers = [layer(number) for number in range(len(config.layers))]
            head = Head(config, numerics, embedding.weight if config.tied_embeddings else None, modules)
            mtp = [Mtp(config, layer(-1, modules - {"layer"}), numerics, modules) for _ in range(config.num_mtp)]
        self.parts = nn.ModuleList([embedding, *layers, head, *mtp])
        initialise(self, config.init_std, seed)

    @property
    def embedding(self) -> Embedding:
        """Part 0."""
        return self.parts[0]

    @property
    def layers(self) -> list[Layer]:
        """Those of the main model."""
        return [part for part in self.parts if isinstance(part, Layer)]

    @property
    def head(self) -> Head:
        """The head, which the MTP modules use too."""
        return self.parts[len(self.config.layers) + 1]

    def forward(self, tokens: Tensor) -> Losses:
        """tokens: (b, s + 1 + num_mtp) int64: s to be read, and those that are predicted behind them.

        Raises CalibrationError: another dtype or shape, too few tokens, tokens outside the vocabulary.
        """
        _, losses = self.run(0, len(self.parts), None, tokens)
        return Losses(losses[0], losses[1:])

    def run(self, first: int, last: int, x: Tensor | None, tokens: Tensor) -> tuple[Tensor | None, tuple[Tensor, ...]]:
        """Parts first to last - 1, a pipeline stage: the hidden state behind them, and the losses of the heads among them.

        x: (b, s, h), what the parts before gave; None in front of part 0. tokens: all of the micro-batch, as in `forward`.
        """
        check_tokens(tokens, self.config)
        if not 0 <= first <= last <= len(self.parts):
            raise CalibrationError(
                [Problem("", "parts", f"{first} to {last} of {len(self.parts)}; allowed a slice of them")]
            )
        losses: list[Tensor] = []
        for number in range(first, last):
            x, loss = self._run_part(number, x, tokens)
            losses += loss
        return x, tuple(losses)

    def _run_part(self, number: int, x: Tensor | None, tokens: Tensor) -> tuple[Tensor, list[Tensor]]:
        length, part = tokens.shape[1] - 1 - self.config.num_mtp, self.parts[number]
        if isinstance(part, Embedding):
            return part(tokens[:, :length]), []
        if x is None:
            raise CalibrationError([Problem("", "x", f"is missing: part {number} goes on from the part before it")])
        if isinstance(part, Head):
            return x, [part(x, tokens[:, 1 : 1 + length])]
        if isinstance(part, Mtp):
            ahead = number - len(self.config.layers) - 1
            x = part(x, self.embedding(tokens[:, ahead : ahead + length]))
            return x, [self.head(x, tokens[:, ahead + 1 : ahead + 1 + length], part.norm)]
        return part(x), []


def check_tokens(tokens: Tensor, config: ModelConfig) -> None:
    """Raises CalibrationError where `Model.forward` cannot take them."""
    if not isinstance(tokens, Tensor):
        raise CalibrationError([Problem("", "tokens", f"are {tokens!r:.60}; an int64 tensor of (sequences, tokens)")])
    least = config.num_mtp + 2
    told = f"{str(tokens.dtype).removeprefix('torch.')} of shape {tuple(tokens.shape)}"
    if tokens.dtype is not torch.int64 or tokens.ndim != 2 or not tokens.shape[0]:
        raise CalibrationError(
            [Problem("", "tokens", f"are {told}; int64 of (sequences, tokens), at least one sequence")]
        )
    if tokens.shape[1] < least:
        raise CalibrationError(
            [Problem("", "tokens", f"are {told}; a sequence has at least {least}: one read, {least - 1} predicted")]
        )
    check_range(tokens, config.vocab_size)
