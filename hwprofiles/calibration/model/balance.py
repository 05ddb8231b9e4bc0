"""What evens the load of experts: the bias that moves after each step, or a loss on the scores.

Both losses are w * sum_i f_i P_i over the experts i, where f_i is how often the tokens chose i, times e / (k tokens), and P_i
is the mean of i's scores, those of a token scaled to sum 1. Even choice and even scores give w, for every i f_i = 1. No
gradient passes through f.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.calibration.model.config import Moe
from hwprofiles.calibration.model.config_form import is_number
from hwprofiles.calibration.model.router import LEAST_SUM, Routing, best
from hwprofiles.problem import Problem

RULES = ("bias", "aux_loss", "none")


@dataclass(frozen=True, slots=True)
class Balancing:
    """How the load is evened.

    rule: bias: the router's bias moves by bias_rate against each expert's excess load after a step (arXiv:2408.15664), beside
    it the sequence-wise loss of weight sequence_weight; aux_loss: a loss of weight aux_weight over the micro-batch's tokens;
    none: neither. Defaults: DeepSeek-V3 report 4.2 (rate, sequence weight), DeepSeek-V2 (arXiv:2405.04434) 3.1.2 (alpha_1).
    """

    rule: Literal["bias", "aux_loss", "none"] = "bias"
    bias_rate: float = 0.001
    aux_weight: float = 0.003
    sequence_weight: float = 0.0001

    def __post_init__(self) -> None:
        problems = [
            Problem("", f"balancing.{field}", f"is {getattr(self, field)!r}; a finite number of at least 0")
            for field in ("bias_rate", "aux_weight", "sequence_weight")
            if not is_number(getattr(self, field), 0.0)
        ]
        if self.rule not in RULES:
            problems.append(Problem("", "balancing.rule", f"is {self.rule!r}; allowed {', '.join(RULES)}"))
        if problems:
            raise CalibrationError(problems)

    @classmethod
    def of(cls, config: Moe) -> Balancing:
        """The model's own: by bias where its router has one, else by the auxiliary loss."""
        return cls("bias" if config.has_bias else "aux_loss")


def balance_loss(routing: Routing, config: Moe, balancing: Balancing, num_sequences: int) -> Tensor | None:
    """The loss of one layer on its tokens, a scalar in the scores' format; None where the rule has none.

    routing: of num_sequences sequences of equal length, one after another.
    """
    if balancing.rule == "bias" and balancing.sequence_weight:
        return sequence_loss(routing.scores, config.top_k, balancing.sequence_weight, num_sequences)
    if balancing.rule == "aux_loss" and balancing.aux_weight:
        return expert_loss(routing, balancing.aux_weight)
    return None


def sequence_loss(scores: Tensor, top_k: int, weight: float, num_sequences: int) -> Tensor:
    """Complementary sequence-wise loss (DeepSeek-V3 report 2.1.2, equations 17 to 20), the mean over sequences.

    scores: (t, e). As the report writes it, f counts the top k of the scores without bias and without the limit of groups.
    """
    chosen = best(scores.detach(), top_k)
    result: Tensor = _Balance.apply(
        scores.unflatten(0, (num_sequences, -1)), chosen.unflatten(0, (num_sequences, -1)), weight
    )
    return result


def expert_loss(routing: Routing, weight: float) -> Tensor:
    """Expert-level auxiliary loss (DeepSeek-V2, arXiv:2405.04434 2.1.4; Switch, arXiv:2101.03961 2.2, for k = 1) over all the
    tokens; f counts the experts that were really chosen.
    """
    result: Tensor = _Balance.apply(routing.scores.unsqueeze(0), routing.experts.unsqueeze(0), weight)
    return result


class _Balance(torch.autograd.Function):
    """Mean over groups of weight * sum_i f_i P_i; scores (g, n, e), chosen (g, n, k) int64. Keeps the scores, and f (g, e)."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, chosen: Tensor, weight: float) -> Tensor:
        num_groups, _, num_experts = scores.shape
        counts = torch.zeros(num_groups, num_experts, dtype=torch.int64, device=scores.device)
        flat = chosen.flatten(1)
        counts.scatter_add_(1, flat, torch.ones_like(flat))
        often = counts.to(scores.dtype) * (num_experts / flat.shape[1])
        ctx.weight = weight
        ctx.save_for_backward(scores, often)
        mean = (scores / _total(scores)).mean(1)
        return weight * (often * mean).sum() / num_groups

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        scores, often = ctx.saved_tensors
        num_groups, tokens, _ = scores.shape
        # Of s / sum(s): the gradient less its mean by the scaled scores, over the sum.
        total = _total(scores)
        mean = ((often.unsqueeze(1) * scores).sum(2, keepdim=True)) / total
        return grad * ctx.weight / (num_groups * tokens) * (often.unsqueeze(1) - mean) / total, None, None


def _total(scores: Tensor) -> Tensor:
    return scores.sum(2, keepdim=True).clamp_min(LEAST_SUM)
