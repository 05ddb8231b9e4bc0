"""Rows to experts on other ranks and back: dispatch and combine of an expert group, with deduplicated copies.

Sent are a token's hidden vector and its experts' weights. Backward of a dispatch is a combine of gradients, and of a combine a
dispatch, over the layout that the forward found. Sums are taken in FP32 at every place.

What is dispatched travels in the wire's format, forward and backward (a combine's gradient); with FP8, what is combined stays
in BF16 (DeepSeek-V3 report 3.3.3).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import get_args

import torch
from torch import Tensor

from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.calibration.model.dispatch import Received
from hwprofiles.calibration.model.router import Routing
from hwprofiles.calibration.parallel.flight import Flight, Steps, Tensors, Transfer
from hwprofiles.calibration.parallel.groups import ExpertGroup
from hwprofiles.calibration.parallel.layout import Layout, plan
from hwprofiles.calibration.parallel.wire import Wire, pack, unpack
from hwprofiles.names import nearest
from hwprofiles.problem import Problem


@dataclass
class Traffic:
    """What this rank has sent since it was made.

    tokens: dispatched; node_copies: of them to nodes; rank_copies: copies forwarded to ranks; a rank's own are counted.
    bytes_sent: (dispatch or combine, across or inside a node) to bytes that left this rank; a gradient's way back from
    experts counts as a combine.
    """

    tokens: int = 0
    node_copies: int = 0
    rank_copies: int = 0
    bytes_sent: Counter[tuple[str, str]] = field(default_factory=Counter)


class ExpertDispatch:
    """A `Dispatcher` over an expert group. wire: the format of hidden vectors on their way.

    Raises CalibrationError: a format that does not exist.
    """

    def __init__(self, group: ExpertGroup, wire: Wire = "as_is") -> None:
        if wire not in get_args(Wire):
            raise CalibrationError([Problem("", "wire", f"{wire!r} is unknown{nearest(wire, get_args(Wire))}")])
        self.group, self.wire, self.traffic = group, wire, Traffic()

    @property
    def ranks(self) -> int:
        """Ranks that hold experts."""
        return self.group.size

    @property
    def rank(self) -> int:
        """This one's."""
        return self.group.rank

    def start_dispatch(self, x: Tensor, routing: Routing) -> Dispatching:
        """Begins to send x (t, h). Waits for the device: how many rows come is known to the host first.

        Raises CalibrationError: a router of another number of experts than the group has.
        """
        if routing.scores.shape[1] != self.group.num_experts:
            told = f"the router has {routing.scores.shape[1]}, the expert group was made for {self.group.num_experts}"
            raise CalibrationError([Problem("", "num_experts", told)])
        layout = plan(routing.experts, self.group)
        self.traffic.tokens += layout.tokens
        self.traffic.node_copies += layout.node_copies
        self.traffic.rank_copies += layout.rank_copies
        return Dispatching(layout, Flight.start(_Dispatch(layout, self.wire, self.traffic), x, routing.weights))

    def start_combine(self, rows: Tensor, received: Received) -> Flight:
        """Begins to send back rows (r, h); `wait()[0]` of the result is (t, h)."""
        return Flight.start(_Combine(received.handle, self.wire, self.traffic), rows)

    def dispatch(self, x: Tensor, routing: Routing) -> Received:
        """x: (t, h), tokens of this process."""
        return self.start_dispatch(x, routing).wait()

    def combine(self, rows: Tensor, received: Received) -> Tensor:
        """(t, h): of each token the sum of its experts' rows (r, h), which bear their weights already."""
        return self.start_combine(rows, received).wait()[0]


@dataclass(frozen=True)
class Dispatching:
    """A dispatch under way."""

    layout: Layout
    flight: Flight

    def wait(self) -> Received:
        """The local experts' rows."""
        rows, row_weights = self.flight.wait()
        return Received(rows, self.layout.counts, row_weights, self.layout)


class _Way(Transfer):
    """What dispatch and combine share: the layout, the format on the wire and the count of what is sent."""

    def __init__(self, layout: Layout, wire: Wire, traffic: Traffic) -> None:
        self._layout, self._wire, self._traffic = layout, wire, traffic

    def _scatter(self, x: Tensor, *beside: Tensor) -> Steps:
        """x (t, h) in the wire's format and what goes beside it (t, …), as copies (c, …) of this rank; x in its own dtype."""
        packed = pack(x, self._wire)
        carried: Tensors = (*packed, *beside)
        for name, leg in self._layout.legs.items():
            self._count("dispatch", name, leg.sent_away, carried)
            carried = yield from leg.out(carried)
        return (unpack(carried[: len(packed)], self._wire, x.shape[1], x.dtype), *carried[len(packed) :])

    def _gather(self, rows: Tensor, *beside: Tensor) -> Steps:
        """rows (r, …) and what comes back beside them, as sums by token (t, …); in their own dtypes."""
        thin = torch.bfloat16 if self._wire != "as_is" else rows.dtype
        totals = tuple(self._layout.rows.sums(x) for x in (rows, *beside))
        for name, leg in reversed(self._layout.legs.items()):
            carried = (totals[0].to(thin), *totals[1:])
            self._count("combine", name, leg.received_from_others, carried)
            totals = yield from leg.back(carried)
        return (totals[0].to(rows.dtype), *totals[1:])

    def _count(self, way: str, name: str, copies: int, carried: Tensors) -> None:
        self._traffic.bytes_sent[way, name] += copies * sum(x.element_size() * x.shape[1:].numel() for x in carried)


class _Dispatch(_Way):
    """x (t, h), weights (t, k) to rows (r, h), row_weights (r,)."""

    def forward(self, *inputs: Tensor) -> Steps:
        x, weights = yield from self._scatter(*inputs)
        self._k = weights.shape[1]
        rows = self._layout.rows
        return rows.copies(x), weights[rows.source, self._layout.slot]

    def backward(self, *grads: Tensor) -> Steps:
        rows_grad, weights_grad = grads
        wide = weights_grad.new_zeros(len(weights_grad), self._k)
        wide.scatter_(1, self._layout.slot.unsqueeze(1), weights_grad.unsqueeze(1))
        return (yield from self._gather(rows_grad, wide))


class _Combine(_Way):
    """rows (r, h) to their sums by token (t, h)."""

    def forward(self, *inputs: Tensor) -> Steps:
        return (yield from self._gather(*inputs))

    def backward(self, *grads: Tensor) -> Steps:
        (copies,) = yield from self._scatter(*grads)
        return (self._layout.rows.copies(copies),)
