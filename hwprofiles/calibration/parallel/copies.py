"""Tensors that several ranks hold, by name: both copies of a DualPipe stage, the embedding that the last stage borrows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import torch
import torch.distributed as dist
from torch import Tensor, nn

from hwprofiles.calibration.errors import CalibrationError, refuse
from hwprofiles.problem import Problem

Holders: TypeAlias = Mapping[str, tuple[int, ...]]
"""The ranks that hold a name, ascending: of the names that more than one rank holds, in the same order everywhere."""


def named_tensors(stages: Iterable[nn.Module]) -> dict[str, Tensor]:
    """Parameters and buffers of a rank's stages, each once. Raises CalibrationError for one name of two tensors."""
    found: dict[str, Tensor] = {}
    for stage in stages:
        for name, tensor in [*stage.named_parameters(), *stage.named_buffers()]:
            if found.setdefault(name, tensor) is not tensor:
                raise CalibrationError([Problem("", name, "is two tensors on one rank; its stages must share it")])
    return found


def holders_of(tensors: Mapping[str, Tensor], group: Any) -> Holders:
    """Which ranks hold what. Every rank of the group calls it.

    Raises CalibrationError where the copies of a tensor do not start equal.
    """
    mine = {name: (tuple(tensor.shape), str(tensor.dtype), _checksum(tensor)) for name, tensor in tensors.items()}
    everyone: list[Any] = [None] * dist.get_world_size(group)
    dist.all_gather_object(everyone, mine, group=group)
    ranks: dict[str, list[int]] = {}
    for rank, names in enumerate(everyone):
        for name in names:
            ranks.setdefault(name, []).append(rank)
    refuse([
        Problem("", name, f"differs between ranks {held[0]} and {rank}; the copies of a tensor must start equal")
        for name, held in sorted(ranks.items())
        for rank in held[1:]
        if everyone[rank][name] != everyone[held[0]][name]
    ])  # fmt: skip
    return {name: tuple(held) for name, held in sorted(ranks.items()) if len(held) > 1}


def _checksum(tensor: Tensor) -> float:
    """A number that two unlike tensors hardly share: a sum of the entries, each weighted by its place."""
    flat = tensor.detach().flatten().to(torch.float64)
    return float(flat @ torch.arange(1, flat.numel() + 1, dtype=torch.float64, device=flat.device).sqrt())


def summed(values: Mapping[str, Tensor], holders: Holders, rank: int, group: Any) -> dict[str, Tensor]:
    """Values by name, those that other ranks hold too summed over them in the ranks' order: the same bytes on all of them.

    Every rank of the group calls it, with a value of every name that it holds of those that any rank gives.
    """
    found = dict(values)
    together: dict[tuple[tuple[int, ...], str], list[str]] = {}
    for name, ranks in holders.items():
        if name in values:
            together.setdefault((ranks, str(values[name].dtype)), []).append(name)
    for ranks, dtype in sorted(together):
        names = together[ranks, dtype]
        mine = torch.cat([values[name].flatten() for name in names])
        total = _sum_over(mine, ranks, rank, group)
        for name, part in zip(names, total.split([values[name].numel() for name in names]), strict=True):
            found[name] = part.view_as(values[name]).clone()
    return found


def _sum_over(mine: Tensor, ranks: tuple[int, ...], rank: int, group: Any) -> Tensor:
    parts = {other: mine if other == rank else torch.empty_like(mine) for other in ranks}
    work = dist.batch_isend_irecv([
        dist.P2POp(op, parts[rank if op is dist.isend else other], group=group, group_peer=other)
        for other in ranks if other != rank
        for op in (dist.isend, dist.irecv)
    ])  # fmt: skip
    for each in work:
        each.wait()
    total = parts[ranks[0]].clone()
    for other in ranks[1:]:
        total += parts[other]
    return total
