"""The MoE layer written down slowly: a token and an expert at a time, in whatever format its numbers have.

For checks of the fast layer: gradients are torch's own, of plain sums and products. It shares no function with the fast path;
the selection is Python's sorting.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from hwprofiles.calibration.model.config import Activation, Moe

Weights = Mapping[str, Tensor]
"""By the names of `MoeLayer.state_dict()`: router.weight, router.bias, experts.up, experts.down, experts.up_bias, ..."""


def moe(x: Tensor, weights: Weights, config: Moe) -> tuple[Tensor, list[list[int]]]:
    """x (t, h): y (t, h) of the routed experts, and each token's experts."""
    outputs, chosen = [], []
    for token in x:
        scores = token_scores(token, weights["router.weight"], config)
        experts = chosen_experts((scores + weights["router.bias"]).tolist(), config)
        of_chosen = [scores[expert] for expert in experts]
        total = sum(of_chosen[1:], of_chosen[0]) if config.is_normalised else 1.0
        parts = [
            config.weight_scale * score / total * expert_output(token, expert, weights, config)
            for expert, score in zip(experts, of_chosen, strict=True)
        ]
        outputs.append(sum(parts[1:], parts[0]))
        chosen.append(experts)
    return torch.stack(outputs), chosen


def token_scores(token: Tensor, weight: Tensor, config: Moe) -> Tensor:
    """(e,) scores of one token (h,)."""
    logits = torch.stack([(token * row).sum() for row in weight])
    if config.score == "sigmoid":
        return 1.0 / (1.0 + torch.exp(-logits))
    raised = torch.exp(logits - logits.max().detach())
    return raised / raised.sum()


def chosen_experts(biased: Sequence[float], config: Moe) -> list[int]:
    """The experts of one token, the best first; of equals the first."""
    width = config.num_experts // config.num_groups
    groups = [range(first, first + width) for first in range(0, config.num_experts, width)]
    by_sum = sorted(
        groups, key=lambda group: -sum(sorted((biased[e] for e in group), reverse=True)[: config.group_top])
    )
    inside = sorted(expert for group in by_sum[: config.max_groups] for expert in group)
    return sorted(inside, key=lambda expert: -biased[expert])[: config.top_k]


def expert_output(token: Tensor, expert: int, weights: Weights, config: Moe) -> Tensor:
    """(h,) of one expert, without its weight."""
    inner = weights["experts.up"][expert] @ token
    if config.expert.bias:
        inner = inner + weights["experts.up_bias"][expert]
    if config.clamp is not None:
        half = len(inner) // 2
        least = torch.cat((torch.full_like(inner[:half], -torch.inf), torch.full_like(inner[half:], -config.clamp)))
        inner = torch.maximum(torch.minimum(inner, torch.full_like(inner, config.clamp)), least)
    result = weights["experts.down"][expert] @ activated(inner, config.expert.activation)
    return result + weights["experts.down_bias"][expert] if config.expert.bias else result


def activated(inner: Tensor, kind: Activation) -> Tensor:
    """What stands between the projections; inner (num_up f,)."""
    if kind == "relu2":
        return functional.relu(inner) ** 2
    if kind == "gelu":
        return functional.gelu(inner)
    gate, up = inner[: len(inner) // 2], inner[len(inner) // 2 :]
    return (functional.silu(gate) if kind == "swiglu" else functional.gelu(gate)) * up


def balance(scores: Tensor, chosen: Sequence[Sequence[int]], config: Moe) -> Tensor:
    """sum_i f_i P_i over one group of tokens: scores (n, e), chosen the experts counted (DeepSeek-V3 report 2.1.2)."""
    total = scores.new_zeros(())
    for expert in range(config.num_experts):
        often = sum(expert in experts for experts in chosen) * config.num_experts / (config.top_k * len(chosen))
        share = sum((row[expert] / row.sum() for row in scores), scores.new_zeros(())) / len(scores)
        total = total + often * share
    return total


def shared(x: Tensor, weights: Weights, config: Moe) -> Tensor:
    """(t, h) of the shared experts, which are one network; x (t, h)."""
    outputs = []
    for token in x:
        inner = weights["shared.up.weight"] @ token
        if config.expert.bias:
            inner = inner + weights["shared.up.bias"]
        result = weights["shared.down.weight"] @ activated(inner, config.expert.activation)
        outputs.append(result + weights["shared.down.bias"] if config.expert.bias else result)
    return torch.stack(outputs)
