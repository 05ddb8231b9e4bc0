"""Rows exchanged between all ranks of a group, as many to each as wanted: torch's all_to_all_single, and its gradient.

Of formats that a backend does not know (FP8) send a view as uint8.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.calibration.parallel.flight import Flight, Steps, Transfer
from hwprofiles.problem import Problem


@dataclass(frozen=True)
class Splits:
    """Rows that go to each rank of a group and come from each; zeros allowed."""

    send: tuple[int, ...]
    receive: tuple[int, ...]

    def back(self) -> Splits:
        """Of the way back."""
        return Splits(self.receive, self.send)


def exchange_counts(counts: Tensor, group: Any) -> Splits:
    """What this rank receives, from what each sends. counts: (ranks,) int64. Waits for the device: the host needs numbers."""
    received = torch.empty_like(counts)
    dist.all_to_all_single(received, counts, group=group)
    send, receive = torch.stack((counts, received)).tolist()
    return Splits(tuple(send), tuple(receive))


def exchange(tensors: Sequence[Tensor], splits: Splits, group: Any) -> Steps:
    """Steps that send each tensor's rows (sum(send), …), sorted by destination, and return those received
    (sum(receive), …), by source.

    Raises CalibrationError: a tensor has not as many rows as are to be sent.
    """
    received, pending = [], []
    for x in tensors:
        if len(x) != sum(splits.send):
            message = f"{len(x)} are given, but {sum(splits.send)} are to be sent: {splits.send} to each rank"
            raise CalibrationError([Problem("", "rows", message)])
        out = x.new_empty((sum(splits.receive), *x.shape[1:]))
        to, fro = list(splits.send), list(splits.receive)
        pending.append(dist.all_to_all_single(out, x.contiguous(), fro, to, group=group, async_op=True))
        received.append(out)
    yield from pending
    return tuple(received)


class _Exchange(Transfer):
    """Rows to where they go; their gradients back."""

    def __init__(self, splits: Splits, group: Any) -> None:
        self._splits, self._group = splits, group

    def forward(self, *inputs: Tensor) -> Steps:
        return exchange(inputs, self._splits, self._group)

    def backward(self, *grads: Tensor) -> Steps:
        return exchange(grads, self._splits.back(), self._group)


def all_to_all_async(x: Tensor, splits: Splits, group: Any) -> Flight:
    """Begins to send rows; `wait()[0]` of the result gives those received. Shapes as in `exchange`; differentiable.

    Backward likewise: the gradients' way back begins where backward reaches the wait, and ends where it reaches the start.
    """
    return Flight.start(_Exchange(splits, group), x)


def all_to_all(x: Tensor, splits: Splits, group: Any) -> Tensor:
    """Sends rows and waits for those received. Shapes as in `exchange`; differentiable."""
    return all_to_all_async(x, splits, group).wait()[0]
