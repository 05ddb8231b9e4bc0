"""The router: which experts a token goes to, and with which weights.

Scores are in FP32, from operands in BF16. Of the forward the backward needs the input, the scores, and index and weight of
the chosen: both functions here are written so that nothing else is kept (torch's own would keep the input in FP32 too, and
several copies of the scores).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isfinite
from typing import Any

import torch
from torch import Tensor, nn

from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.calibration.model.config import Moe, Score
from hwprofiles.calibration.model.linear import parameter
from hwprofiles.calibration.numerics.numerics import Numerics
from hwprofiles.problem import Problem

LEAST_SUM = 1e-20
"""Least sum of scores that weights are divided by: where all of a token's scores have underflowed its weights are 0."""


@dataclass(frozen=True, slots=True)
class Routing:
    """Where t tokens go. experts: (t, k) int64, the best first; weights: (t, k) FP32; scores: (t, e) FP32, without the bias."""

    experts: Tensor
    weights: Tensor
    scores: Tensor


class Router(nn.Module):
    """Scores of all experts, and the choice by score plus bias.

    weight: (e, h), in the format of what a recipe leaves in high precision.
    bias: (e,) FP32, a buffer of every router (zeros where the model has none): no gradient reaches it, no optimizer moves it.
    is_checked: whether scores are looked at for NaN, for which the host waits for a GPU; a CUDA graph cannot.
    """

    is_checked = True

    def __init__(self, config: Moe, hidden: int, numerics: Numerics) -> None:
        super().__init__()
        self.config, self.numerics = config, numerics.plain
        self.weight = parameter(self.numerics, config.num_experts, hidden)
        self.bias: Tensor
        self.register_buffer("bias", torch.zeros(config.num_experts, dtype=torch.float32))

    def forward(self, x: Tensor) -> Routing:
        """x: (t, h). Raises CalibrationError: another shape, a score or a bias that is NaN."""
        if x.dim() != 2 or x.shape[1] != self.weight.shape[1] or not x.is_floating_point():
            told = f"is {x.dtype} of shape {tuple(x.shape)}; allowed numbers of shape (tokens, {self.weight.shape[1]})"
            raise CalibrationError([Problem("", "x", told)])
        scores = _Scores.apply(self.numerics.rounded(x), self.weight, self.numerics, self.config.score)
        biased = scores.detach() + self.bias
        if self.is_checked:
            _refuse_nan(scores, biased)
        experts = select(biased, self.config)
        return Routing(experts, _Weights.apply(scores, experts, self.config), scores)

    def update_bias(self, loads: Tensor, rate: float) -> None:
        """Raises the bias of experts below the mean load by rate and lowers that of those above it (arXiv:2408.15664, 3.1).

        loads: (e,) int64, rows of each expert over the whole step, all ranks together.
        Raises CalibrationError: another number of loads, a rate that is not finite.
        """
        if loads.shape != self.bias.shape:
            told = f"have shape {tuple(loads.shape)}; one for each of {self.config.num_experts} experts"
            raise CalibrationError([Problem("", "loads", told)])
        if not isfinite(rate):
            raise CalibrationError([Problem("", "rate", f"is {rate}; a finite number")])
        below = loads.sum() - self.config.num_experts * loads
        self.bias += rate * below.sign().to(self.bias)


def select(scores: Tensor, config: Moe) -> Tensor:
    """(t, k) int64 experts of each token, the best first; of equals the one of the lower index.

    scores: (t, e), the bias added. Groups of consecutive experts are ranked by the sum of their best group_top scores; the
    experts come from the best max_groups groups (DeepSeek-V3 report 2.1.2, node-limited routing).
    """
    if config.max_groups == config.num_groups:
        return best(scores, config.top_k)
    grouped = scores.unflatten(1, (config.num_groups, -1))
    top = min(config.group_top, grouped.shape[2])
    kept = best(grouped.topk(top, dim=2).values.sum(2), config.max_groups)
    is_open = torch.zeros(grouped.shape[:2], dtype=torch.bool, device=scores.device).scatter_(1, kept, True)
    return best(grouped.masked_fill(~is_open.unsqueeze(2), -inf).flatten(1), config.top_k)


def best(scores: Tensor, count: int) -> Tensor:
    """(t, count) indices of the highest in each row, the highest first. The sort is stable: of ties the lower index."""
    return scores.sort(dim=1, descending=True, stable=True).indices[:, :count].contiguous()


class _Scores(torch.autograd.Function):
    """sigmoid or softmax of x (t, h) times weight (e, h) transposed, in FP32 (float64 for float64). Keeps x and the scores."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, numerics: Numerics, score: Score) -> Tensor:
        logits = _product(x, numerics.rounded(weight).t())
        scores = logits.sigmoid() if score == "sigmoid" else logits.softmax(1)
        ctx.numerics, ctx.score = numerics, score
        ctx.save_for_backward(x, weight, scores)
        return scores

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        x, weight, scores = ctx.saved_tensors
        if ctx.score == "sigmoid":
            grad = grad * scores * (1.0 - scores)
        else:
            grad = scores * (grad - (grad * scores).sum(1, keepdim=True))
        operand, of_weight = ctx.numerics.rounded(grad), ctx.needs_input_grad[1]
        return (
            _product(operand, ctx.numerics.rounded(weight)).to(x.dtype),
            weight_grad(operand, x, weight) if of_weight else None,
            None,
            None,
        )


def weight_grad(logits_grad: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """Of the router's weight (e, h), from its input (t, h) and the gradient of the logits (t, e), in the input's format."""
    return _product(logits_grad.t(), x).to(weight.dtype)


def _product(a: Tensor, b: Tensor) -> Tensor:
    """a (m, k) times b (k, n), summed and given in FP32 (float64 for float64)."""
    if a.is_cuda and a.dtype is torch.bfloat16:
        return torch.mm(a, b, out_dtype=torch.float32)
    wide = torch.promote_types(a.dtype, torch.float32)
    return a.to(wide) @ b.to(wide)


class _Weights(torch.autograd.Function):
    """Weights of the chosen experts from the scores without the bias. Keeps scores, index and weights."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, experts: Tensor, config: Moe) -> Tensor:
        weights = scores.gather(1, experts)
        if config.is_normalised:
            weights = weights / weights.sum(1, keepdim=True).clamp_min(LEAST_SUM)
        weights = weights * config.weight_scale
        ctx.config = config
        ctx.save_for_backward(scores, experts, weights)
        return weights

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        scores, experts, weights = ctx.saved_tensors
        config: Moe = ctx.config
        chosen_grad = grad * config.weight_scale
        if config.is_normalised:
            # Of w = c s / sum(s): the gradient less its mean by the weights, over the sum.
            total = scores.gather(1, experts).sum(1, keepdim=True).clamp_min(LEAST_SUM)
            chosen_grad = (chosen_grad - (grad * weights).sum(1, keepdim=True)) / total
        return torch.zeros_like(scores).scatter_(1, experts, chosen_grad), None, None


def _refuse_nan(scores: Tensor, biased: Tensor) -> None:
    """biased: the scores with the bias. One look for both, because on a GPU it waits for the device."""
    if not bool(biased.sum().isnan()):
        return
    cause = "(a step before has diverged, or a checkpoint is damaged): lower the learning rate, or look there first"
    if bool(scores.isnan().any()):
        token = int(scores.isnan().any(1).nonzero()[0])
        message = (
            f"is NaN for token {token} of {scores.shape[0]}: no expert can be chosen; the router's input or its weights are "
            f"not finite {cause}"
        )
        raise CalibrationError([Problem("", "router.scores", message)])
    expert = int((biased - scores).isfinite().logical_not().any(0).nonzero()[0])
    raise CalibrationError([Problem("", "router.bias", f"of expert {expert} is not finite {cause}")])
