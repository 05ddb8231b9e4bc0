"""Final norm, logits and loss. Logits in the activations' format, the loss in FP32, whatever the recipe of the layers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Final

import torch
from torch import Tensor, nn

from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.calibration.model.config import ModelConfig
from hwprofiles.calibration.model.embedding import check_range
from hwprofiles.calibration.model.linear import parameter
from hwprofiles.calibration.model.norm import norm_of
from hwprofiles.calibration.model.recompute import made
from hwprofiles.calibration.numerics.numerics import Numerics
from hwprofiles.problem import Problem

ROWS: Final = 1024
"""Tokens whose logits are in FP32 at a time."""


class Head(nn.Module):
    """weight: (v, h), the embedding's where they are tied."""

    def __init__(
        self,
        model: ModelConfig,
        numerics: Numerics,
        tied: nn.Parameter | None = None,
        recompute: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__()
        self.numerics, self.is_norm_again = numerics.plain, "rmsnorm" in recompute
        self.norm = norm_of(model, numerics.plain)
        self.weight = parameter(numerics.plain, model.vocab_size, model.hidden_size) if tied is None else tied

    def forward(self, x: Tensor, targets: Tensor, norm: nn.Module | None = None) -> Tensor:
        """x (b, s, h), targets (b, s) int64: mean cross-entropy in nats, FP32 scalar. norm: in place of the head's own."""
        with ExitStack() as dropped:
            normed = made(dropped, self.is_norm_again, norm or self.norm, x)
            return cross_entropy(self.logits(normed), targets)

    def logits(self, normed: Tensor) -> Tensor:
        """(..., h) to (..., v)."""
        return self.numerics.linear(normed, self.weight)


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean of -log softmax(logits)[target] in FP32 (FP64 for float64), scalar. logits: (..., v); targets: (...) int64.

    Keeps the logits in their format and an FP32 number a token, no probabilities: as a fused loss does.
    """
    if logits.shape[:-1] != targets.shape:
        told = f"have shape {tuple(targets.shape)}; the logits {tuple(logits.shape)} need {tuple(logits.shape[:-1])}"
        raise CalibrationError([Problem("", "targets", told)])
    check_range(targets, logits.shape[-1], "targets")
    loss: Tensor = _CrossEntropy.apply(logits.flatten(0, -2), targets.flatten())
    return loss


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> Tensor:
        wide = torch.promote_types(logits.dtype, torch.float32)
        log_sums = torch.cat([logits[part].to(wide).logsumexp(-1) for part in _parts(logits.shape[0])])
        ctx.save_for_backward(logits, targets, log_sums)
        return (log_sums - logits.gather(1, targets[:, None])[:, 0].to(log_sums.dtype)).mean()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        logits, targets, log_sums = ctx.saved_tensors
        logits_grad = torch.empty_like(logits)
        share = grad / logits.shape[0]
        for part in _parts(logits.shape[0]):
            away = (logits[part] - log_sums[part, None]).exp_()  # in the format of the sums
            away.scatter_add_(1, targets[part, None], away.new_full((away.shape[0], 1), -1.0))
            logits_grad[part] = away.mul_(share)
        return logits_grad, None


def _parts(num_rows: int) -> Iterator[slice]:
    """ROWS rows at a time."""
    for first in range(0, num_rows, ROWS):
        yield slice(first, min(first + ROWS, num_rows))
