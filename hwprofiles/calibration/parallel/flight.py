"""Transfers in flight: begun at one place of a program, waited for at another, forward and backward.

A transfer is written as a generator that yields what it waits for (a handle of an asynchronous collective). On a CPU its first
collective runs beside what the program does next, and what follows runs in the wait. On a GPU all of it is queued at once on a
communication stream; to wait is to let the current stream wait for an event, and the host goes on.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator
from typing import Any

import torch
from torch import Tensor

Tensors = tuple[Tensor, ...]
Steps = Generator[Any, None, Tensors]


class Transfer(ABC):
    """A linear transfer of tensors between ranks, and its transpose, which carries the gradients."""

    @abstractmethod
    def forward(self, *inputs: Tensor) -> Steps:
        """Steps that return the outputs."""

    @abstractmethod
    def backward(self, *grads: Tensor) -> Steps:
        """Steps that return the inputs' gradients, from those of the outputs."""


class Running:
    """Steps under way. `end` gives what they return."""

    def __init__(self, steps: Steps, inputs: Tensors) -> None:
        self._steps, self._inputs = steps, inputs
        self._result: Tensors | None = None
        self._pending: Any = None
        self._done: Any = None
        self._device = next((x.device for x in inputs if x.is_cuda), None)
        if self._device is None:
            self._pending = self._next(None)
            return
        stream = communication_stream(self._device)
        stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(stream):
            pending = self._next(None)
            while self._result is None:
                pending = self._next(pending)
            self._done = stream.record_event()

    def _next(self, pending: Any) -> Any:
        """Goes on to what is waited for next; None at the end."""
        if pending is not None:
            pending.wait()
        try:
            return next(self._steps)
        except StopIteration as end:
            self._result = end.value
            return None

    def end(self) -> Tensors:
        """Waits; every rank of the group ends its transfers in the order in which it began them."""
        if self._device is not None:
            current = torch.cuda.current_stream(self._device)
            current.wait_event(self._done)
            for x in self._result or ():
                x.record_stream(current)
        while self._result is None:
            self._pending = self._next(self._pending)
        return self._result


_STREAMS: dict[torch.device, Any] = {}


def communication_stream(device: torch.device) -> Any:
    """The stream of a GPU on which transfers run: their kernels go before those of products, which fill the GPU."""
    if device not in _STREAMS:
        _STREAMS[device] = torch.cuda.Stream(device, priority=-1)
    return _STREAMS[device]


class Flight:
    """A transfer that autograd follows. `token`: an empty tensor that joins start and wait in autograd's graph.

    Where it is cut (detached), backward can be run up to the wait, which begins the gradients' transfer, and later from the
    start on, which ends it: see overlap.py.
    """

    def __init__(self, transfer: Transfer) -> None:
        self.transfer = transfer
        self.running: Running | None = None
        self.token: Tensor | None = None

    @classmethod
    def start(cls, transfer: Transfer, *inputs: Tensor) -> Flight:
        """Begins a transfer."""
        flight = cls(transfer)
        flight.token = _Start.apply(flight, *inputs)
        return flight

    def wait(self) -> Tensors:
        """The outputs, once; backward begins the transfer of their gradients here."""
        token, self.token = self.token, None  # the graph knows it; a flight that held on to it would hold on to itself
        result: Tensors = _Wait.apply(self, token)
        return result

    def end(self) -> Tensors:
        """What the transfer under way returns."""
        assert self.running is not None, "waited for twice"
        running, self.running = self.running, None
        return running.end()


class _Start(torch.autograd.Function):
    """Begins a transfer; backward ends the transfer of the gradients."""

    @staticmethod
    def forward(ctx: Any, flight: Flight, *inputs: Tensor) -> Tensor:
        ctx.flight = flight
        flight.running = Running(flight.transfer.forward(*inputs), inputs)
        return inputs[0].new_empty(0)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        return (None, *ctx.flight.end())


class _Wait(torch.autograd.Function):
    """Ends a transfer; backward begins the transfer of the gradients."""

    @staticmethod
    def forward(ctx: Any, flight: Flight, token: Tensor) -> Tensors:
        ctx.flight = flight
        return flight.end()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        flight = ctx.flight
        flight.running = Running(flight.transfer.backward(*grads), grads)
        return None, grads[0].new_empty(0)
