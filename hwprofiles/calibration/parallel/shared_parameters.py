"""Parameters that several ranks hold, by name: both copies of a DualPipe stage, the embedding that the last stage borrows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from hwprofiles.calibration.errors import CalibrationError, refuse
from hwprofiles.problem import Problem


def named_parameters(stages: Iterable[nn.Module]) -> dict[str, nn.Parameter]:
    """The parameters of a rank's stages, each once. Raises CalibrationError for one name of two tensors."""
    found: dict[str, nn.Parameter] = {}
    for stage in stages:
        for name, parameter in stage.named_parameters():
            if found.setdefault(name, parameter) is not parameter:
                raise CalibrationError([Problem("", name, "is two tensors on one rank; its stages must share it")])
    return found


def holders_of(parameters: Mapping[str, nn.Parameter], group: Any) -> dict[tuple[int, ...], list[str]]:
    """The names that several ranks hold, by the ranks, in the same order everywhere. Every rank of the group calls it.

    Raises CalibrationError where the copies of a parameter do not start equal.
    """
    mine = {name: (tuple(p.shape), str(p.dtype), _checksum(p)) for name, p in parameters.items()}
    everyone: list[Any] = [None] * dist.get_world_size(group)
    dist.all_gather_object(everyone, mine, group=group)
    ranks: dict[str, list[int]] = {}
    for rank, names in enumerate(everyone):
        for name in names:
            ranks.setdefault(name, []).append(rank)
    refuse([
        Problem("", name, f"differs between ranks {held[0]} and {rank}; the copies of a parameter must start equal")
        for name, held in sorted(ranks.items())
        for rank in held[1:]
        if everyone[rank][name] != everyone[held[0]][name]
    ])  # fmt: skip
    shared: dict[tuple[int, ...], list[str]] = {}
    for name in sorted(ranks):
        if len(ranks[name]) > 1:
            shared.setdefault(tuple(ranks[name]), []).append(name)
    return dict(sorted(shared.items()))


def _checksum(parameter: Tensor) -> float:
    """A number that two unlike tensors hardly share: a sum of the entries, each weighted by its place."""
    flat = parameter.detach().flatten().to(torch.float64)
    return float(flat @ torch.arange(1, flat.numel() + 1, dtype=torch.float64, device=flat.device).sqrt())


def sum_gradients(
    parameters: Mapping[str, nn.Parameter], shared: Mapping[tuple[int, ...], list[str]], rank: int, group: Any
) -> None:
    """Each shared parameter's gradient summed over the ranks that hold it, in the ranks' order: the same bytes on all of them.

    A gradient that a rank has not counts as zero. Every rank calls it.
    """
    for ranks, names in shared.items():
        if rank not in ranks:
            continue
        mine = torch.cat([_gradient(parameters[name]).flatten() for name in names])
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
        sizes = [parameters[name].numel() for name in names]
        for name, part in zip(names, total.split(sizes), strict=True):
            parameters[name].grad = part.view_as(parameters[name]).clone()


def _gradient(parameter: nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
