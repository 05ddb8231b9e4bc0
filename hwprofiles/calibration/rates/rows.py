"""Rows of tokens to their experts and back, looked up and added, and their gradients."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch.nn import functional

from hwprofiles.calibration.measuring import random_bf16
from hwprofiles.calibration.model.dispatch import expert_counts, expert_order, permute, unpermute
from hwprofiles.calibration.rates.moved import COARSE, Kernel
from hwprofiles.calibration.rates.routing import SORT

TOP_K: Final = 8
EXPERTS: Final = 64
VOCABULARY: Final = 65_536
LEARNED: Final = 8192
"""Rows of the matrix whose gradient is timed: as small a one as leaves the zeros that stand in it first out of the account."""
TOKENS: Final = ((1024, TOP_K), (4096, TOP_K), (16_384, TOP_K), (65_536, TOP_K))
"""Tokens, and experts of each."""


def collected(rows: Any, order: Any) -> Any:
    """The torch model's sum of each token's rows."""
    return unpermute(rows, order, TOP_K)


def spread(x: Any, order: Any) -> Any:
    """The torch model's rows of each expert."""
    return permute(x, order, TOP_K)


def added(rows: Any, index: Any) -> Any:
    """Rows summed by token: atomic additions into zeros."""
    zeros = torch.zeros(len(rows) // TOP_K, rows.shape[1], device=rows.device, dtype=rows.dtype)
    return zeros.index_add_(0, index, rows)


def added_to(out: Any, index: Any, rows: Any) -> Any:
    """The same into what stands there."""
    return out.index_add_(0, index, rows)


def picked(x: Any, index: Any) -> Any:
    """x[index]."""
    return x[index]


def put(x: Any, index: Any, rows: Any) -> Any:
    """The gradient of x[index]: rows into what stands there, added where an index comes again."""
    return x.index_put_((index,), rows, accumulate=True)


def routed(experts: Any) -> Any:
    """The torch model's map: place of each row by expert, and rows of each expert."""
    return expert_order(experts), expert_counts(experts, EXPERTS)


def _order(device: Any, tokens: int) -> Any:
    """Places of rows, sorted by random experts."""
    return expert_order(torch.rand(tokens, EXPERTS, device=device).argsort(1)[:, :TOP_K])


def _spread(device: Any, rows: int, width: int) -> tuple[Any, ...]:
    return random_bf16(device, rows // TOP_K, width), _order(device, rows // TOP_K)


def _collected(device: Any, rows: int, width: int) -> tuple[Any, ...]:
    return random_bf16(device, rows, width), _order(device, rows // TOP_K)


def _added(device: Any, rows: int, width: int) -> tuple[Any, ...]:
    return random_bf16(device, rows, width), _order(device, rows // TOP_K) // TOP_K


def _added_to(device: Any, rows: int, width: int) -> tuple[Any, ...]:
    made, index = _added(device, rows, width)
    return random_bf16(device, rows // TOP_K, width), index, made


def _picked(device: Any, rows: int, width: int) -> tuple[Any, ...]:
    return random_bf16(device, rows, width), torch.randperm(rows, device=device)


def _put(device: Any, rows: int, width: int) -> tuple[Any, ...]:
    x, index = _picked(device, rows, width)
    return x, index, random_bf16(device, rows, width)


def _learned(device: Any, rows: int, width: int) -> tuple[Any, ...]:
    return torch.randint(0, LEARNED, (rows,), device=device), random_bf16(device, LEARNED, width)


def _looked_up(device: Any, rows: int, width: int) -> tuple[Any, ...]:
    return torch.randint(0, VOCABULARY, (rows,), device=device), random_bf16(device, VOCABULARY, width)


def _chosen(device: Any, tokens: int, top_k: int) -> tuple[Any, ...]:
    return (torch.rand(tokens, EXPERTS, device=device).argsort(1)[:, :top_k].contiguous(),)


KERNELS: Final = (
    Kernel("permute", "moesim", spread, _spread, 4.0, launches=2),
    Kernel("unpermute", "moesim", collected, _collected, shapes=COARSE),
    Kernel("unpermute", "torch", added, _added, shapes=COARSE),
    Kernel("gather_rows", "torch", picked, _picked),
    Kernel("scatter_rows", "torch", added_to, _added_to, shapes=COARSE),
    Kernel("index_put", "torch", put, _put, shapes=COARSE, launches=8, hidden=SORT),
    Kernel("embedding", "torch", functional.embedding, _looked_up, 4.0, shapes=COARSE),
    Kernel("embedding_bwd", "torch", functional.embedding, _learned, 4.0, (1,), shapes=COARSE, launches=8, hidden=SORT),
    Kernel("routing_map", "moesim", routed, _chosen, 16.0, shapes=TOKENS, launches=7, hidden=SORT),
)
"""Bytes of the map as the simulator counts them: 16 of a row, whatever the sort moves inside."""
