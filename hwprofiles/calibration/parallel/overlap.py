"""Two micro-batches at a time: compute of one beside communication of the other.

A pass is cut into pieces where a transfer is in flight: a piece begins with waiting for a transfer and ends with starting one.
Forward and backward of a layer with experts have the same two pieces:

    attn(F)  wait for combine(F) of the layer below, attention, router;     start dispatch(F)
    mlp(F)   wait for dispatch(F), routed and shared experts;               start combine(F)
    mlp(B)   wait for combine(B), gradients of the experts;                 start dispatch(B)
    attn(B)  wait for dispatch(B), gradients of router and attention;       start combine(B) of the layer below

Pieces of a forward and of another micro-batch's backward in turn give DeepSeek-V3's order (report 3.2.1, figure 4): attn(F),
mlp(B), mlp(F), attn(B), and on the wire combine(B), dispatch(F), dispatch(B), combine(F). A piece's gradients of weights are
in the piece: torch gives them together with those of its inputs. Layers without experts belong to the piece that they follow,
and the experts of a module that predicts further tokens wait for their transfers.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.calibration.model.layer import Layer
from hwprofiles.calibration.model.transformer import Losses, Model
from hwprofiles.calibration.parallel.expert_dispatch import ExpertDispatch
from hwprofiles.problem import Problem

Pieces = Generator[None, None, Any]


class Tape:
    """Where autograd's graph of one forward was cut, and its backward, a piece at a time."""

    def __init__(self) -> None:
        self._cuts: list[tuple[Sequence[Tensor], Sequence[Tensor]]] = []

    def cut(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """The same tensors as leaves of a graph of their own."""
        leaves = tuple(x.detach().requires_grad_(x.requires_grad) for x in tensors)
        self._cuts.append((tensors, leaves))
        return leaves

    def backward(self, loss: Tensor) -> Pieces:
        """Pieces of the backward, from the last; the graph of each is let go."""
        loss.backward()
        while self._cuts:
            yield
            tensors, leaves = self._cuts.pop()
            reached = [(x, leaf.grad) for x, leaf in zip(tensors, leaves, strict=True) if leaf.grad is not None]
            torch.autograd.backward([x for x, _ in reached], [grad for _, grad in reached])


def forward(model: Model, tokens: Tensor, tape: Tape) -> Pieces:
    """Pieces of a forward, which return its losses. tokens: as of `Model.forward`.

    Raises CalibrationError: a layer is to be recomputed across its own transfers.
    """
    x: Tensor | None = None
    losses: tuple[Tensor, ...] = ()
    for number, part in enumerate(model.parts):
        if isinstance(part, Layer) and part.has_experts and isinstance(part.ffn.dispatcher, ExpertDispatch):
            x = yield from _layer(part, x, tape)
        else:
            x, found = model.run(number, number + 1, x, tokens)
            losses += found
    return Losses(losses[0], losses[1:])


def _layer(layer: Layer, x: Any, tape: Tape) -> Pieces:
    whole = sorted(layer.recompute & {"layer", "moe"})
    if whole:
        message = (
            f"{whole[0]!r} would send all rows again; name parts of it (swiglu, shared_expert, attention, rmsnorm)"
        )
        raise CalibrationError([Problem("", "recompute", message)])
    moe = layer.ffn
    y = layer.attend(x)
    flat = moe.flat(layer.ffn_norm(y))
    sending = moe.dispatcher.start_dispatch(flat, moe.route(flat, len(x)))
    y, flat, sending.flight.token = tape.cut(y, flat, sending.flight.token)
    yield
    received = sending.wait()
    rows = moe.experts(received.rows, received.counts, received.row_weights)
    shared = moe.share(flat)
    returning = moe.dispatcher.start_combine(rows, received)
    y, returning.token, *kept = tape.cut(y, returning.token, *([] if shared is None else [shared]))
    yield
    combined = returning.wait()[0]
    return layer.numerics.rounded(y + moe.finish(combined, kept[0] if kept else None).view_as(y))


def in_turn(first: Pieces, second: Pieces) -> tuple[Any, Any]:
    """Runs a piece of each in turn, and the rest of the longer one; what both return."""
    results: dict[int, Any] = {}
    while len(results) < 2:
        for idx, pieces in enumerate((first, second)):
            if idx not in results:
                try:
                    next(pieces)
                except StopIteration as end:
                    results[idx] = end.value
    return results[0], results[1]


def train(model: Model, micro_batches: Iterable[Tensor], loss_scale: float = 1.0) -> list[Losses]:
    """Adds the gradients of a step: the backward of each micro-batch in turn with the forward of the next.

    loss_scale: times the losses' totals, for their gradients. Every rank of an expert group has as many micro-batches.
    """
    results: list[Losses] = []
    backward: Pieces = _nothing()
    for tokens in micro_batches:
        tape = Tape()
        _, losses = in_turn(backward, forward(model, tokens, tape))
        results.append(losses)
        backward = tape.backward(losses.total() * loss_scale)
    in_turn(backward, _nothing())
    return results


def _nothing() -> Pieces:
    yield from ()


def infer(model: Model, first: Tensor, second: Tensor) -> tuple[Losses, Losses]:
    """Losses of two micro-batches without gradients: a forward in turn with another."""
    with torch.no_grad():
        losses: tuple[Losses, Losses] = in_turn(forward(model, first, Tape()), forward(model, second, Tape()))
        return losses
