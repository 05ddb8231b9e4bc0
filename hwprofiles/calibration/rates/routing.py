"""The router behind its product: scores, choice and weights of t tokens' experts, in FP32, and their gradients."""

from __future__ import annotations

from typing import Any, Final

import torch

from hwprofiles.calibration.rates.moved import Kernel

TOP_K: Final = 8
SIZES: Final = ((1024, 64), (4096, 128), (8192, 256), (16_384, 64), (32_768, 256))
"""Tokens, experts."""
KEYS: Final = ((1024, 8), (8192, 8), (32_768, 8), (131_072, 8))
"""Tokens, and numbers of each token's experts."""
SORT, TOPK, SCAN = 30, 10, 10
"""Launches, at most, inside a sort, a choice of the best and a running sum."""
PASSES_BYTES: Final = 16 * 4.0
"""Of a score, as the simulator counts a router's element-wise kernels: sixteen passes over FP32 scores."""


def sigmoid_router(logits: Any, bias: Any) -> Any:
    """DeepSeek-V3's without groups, as the torch model has it: the best by score plus bias, by a stable sort."""
    scores = logits.sigmoid()
    experts = (scores.detach() + bias).sort(dim=1, descending=True, stable=True).indices[:, :TOP_K].contiguous()
    weights = scores.gather(1, experts)
    return weights / weights.sum(1, keepdim=True).clamp_min(1e-20) * 2.5


def softmax_router(logits: Any) -> Any:
    """Of plain modules: softmax, the best by topk, normalised."""
    weights = torch.topk(logits.softmax(dim=-1, dtype=torch.float32), TOP_K, dim=-1).values
    return (weights / weights.sum(-1, keepdim=True)).to(torch.bfloat16)


def best(scores: Any) -> Any:
    """The best of each row."""
    return torch.topk(scores, TOP_K, dim=-1)


def in_order(scores: Any) -> Any:
    """Each row by size, as the torch model chooses."""
    return scores.sort(dim=1, descending=True, stable=True)


def flat_order(keys: Any) -> Any:
    """Places of all keys by size."""
    return keys.flatten().argsort(stable=True)


def row_map(mask: Any) -> Any:
    """Place of each token's row of each expert, from a mask (t, e): experts first, counted through, -1 for none."""
    chosen = mask.t().contiguous().flatten()
    return torch.where(chosen, chosen.cumsum(0, dtype=torch.int32) - 1, -1)


def _mask(device: Any, tokens: int, experts: int) -> tuple[Any, ...]:
    return (torch.rand(tokens, experts, device=device) < TOP_K / experts,)


def _logits(device: Any, tokens: int, experts: int) -> tuple[Any, ...]:
    return (torch.randn(tokens, experts, device=device),)


def _biased(device: Any, tokens: int, experts: int) -> tuple[Any, ...]:
    return torch.randn(tokens, experts, device=device), torch.zeros(experts, device=device)


def _keys(device: Any, tokens: int, top_k: int) -> tuple[Any, ...]:
    return (torch.randint(0, 64, (tokens, top_k), device=device),)


KERNELS: Final = (
    Kernel("router_pointwise", "moesim", sigmoid_router, _biased, PASSES_BYTES, shapes=SIZES, hidden=SORT),
    Kernel("router_pointwise", "torch", softmax_router, _logits, PASSES_BYTES, shapes=SIZES, hidden=TOPK),
    Kernel("router_pointwise_bwd", "moesim", sigmoid_router, _biased, PASSES_BYTES, (0,), shapes=SIZES),
    Kernel("router_pointwise_bwd", "torch", softmax_router, _logits, PASSES_BYTES, (0,), shapes=SIZES),
    Kernel("topk", "torch", best, _logits, shapes=SIZES, dtype="fp32", hidden=TOPK),
    Kernel("sort", "torch", in_order, _logits, shapes=SIZES, dtype="fp32", hidden=SORT),
    Kernel("sort", "torch-flat", flat_order, _keys, shapes=KEYS, hidden=SORT),
    Kernel("row_map", "torch", row_map, _mask, shapes=SIZES, hidden=SCAN),
)  # fmt: skip
