"""How kernels and messages that run beside one another share a GPU where kernels are launched with what is free.

DualPipe's kernels are launched on what dispatch and combine leave all the time (their grid is fixed), and were measured so:
every kernel of a pair has the price of the "overlapped" regime. Kernels of other executors are launched on the whole GPU and
lose SMs while a message is on its way. With C seconds of kernels and M of messages, both as they are beside the other, kernels
are slowed for the share min(1, M / C) of their time and messages for min(1, C / M) of theirs. Which kernels these are depends
on the timeline, so that all carry the same share.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import fsum

from hwprofiles.kernels.shape import Regime
from simulator.assembly.chunks import BlockCost, Piece, PieceCost, Segment, UnitCost
from simulator.assembly.collectives import FORWARD_BLOCKS

FORWARD_MESSAGES = frozenset(("dispatch_f", "combine_f"))
WEIGHTS = frozenset(("mlp_w", "attn_w"))


@dataclass(frozen=True, slots=True)
class Shares:
    """Of kernels' and of messages' time, that with the other beside it; 0 to 1."""

    kernels: float
    messages: float


def of_pair(forward: Sequence[UnitCost], backward: Sequence[UnitCost]) -> Shares:
    """Of the layers of a pair's halves."""
    kernels = _kernels_s(forward, is_forward=True) + _kernels_s(backward, is_forward=False)
    return _shares(kernels, _messages_s(forward, is_forward=True) + _messages_s(backward, is_forward=False))


def of_lone_backward(units: Sequence[UnitCost]) -> Shares:
    """Of its weight gradients and its messages."""
    weights = fsum(
        segment.seconds for unit in units for name in WEIGHTS for segment in _of(unit.blocks.get((name, "overlapped")))
    )
    return _shares(weights, _messages_s(units, is_forward=False))


def of_shared_experts(units: Sequence[UnitCost], *, is_forward: bool, has_weights: bool) -> Shares:
    """Of a lone pass's shared experts and its messages. has_weights: weight gradients come with its input gradients."""
    shared = fsum(
        segment.seconds
        for unit in units
        for (name, regime), block in unit.blocks.items()
        if regime == "overlapped" and name.startswith("shared_") and (name in FORWARD_BLOCKS) == is_forward
        if has_weights or not name.startswith("shared_w")
        for segment in _of(block)
    )
    return _shares(shared, _messages_s(units, is_forward=is_forward))


def with_shares(units: Sequence[UnitCost], shares: Shares) -> tuple[UnitCost, ...]:
    """The units with what runs beside something priced by its share of it."""
    known: dict[
        tuple[int, int], tuple[Mapping[tuple[str, Regime], BlockCost], Mapping[tuple[str, Regime], Segment]]
    ] = {}
    found = []
    for unit in units:
        key = id(unit.blocks), id(unit.all_to_all)
        if key not in known:
            known[key] = _blocks(unit, shares.kernels), _messages(unit, shares.messages)
        blocks, messages = known[key]
        found.append(replace(unit, blocks=blocks, all_to_all=messages))
    return tuple(found)


def _shares(kernels_s: float, messages_s: float) -> Shares:
    return Shares(
        min(1.0, messages_s / kernels_s) if kernels_s else 1.0, min(1.0, kernels_s / messages_s) if messages_s else 1.0
    )


def _kernels_s(units: Iterable[UnitCost], *, is_forward: bool) -> float:
    return fsum(
        segment.seconds
        for unit in units if not unit.is_head
        for (name, regime), block in unit.blocks.items()
        if regime == "overlapped" and (name in FORWARD_BLOCKS) == is_forward
        for segment in _of(block)
    )  # fmt: skip


def _messages_s(units: Iterable[UnitCost], *, is_forward: bool) -> float:
    return fsum(
        segment.seconds
        for unit in units
        for (name, regime), segment in unit.all_to_all.items()
        if regime == "overlapped" and (name in FORWARD_MESSAGES) == is_forward
    )


def _of(block: BlockCost | None) -> Iterable[Segment]:
    return () if block is None else (segment for _, _, segment in block.segments)


def _blocks(unit: UnitCost, share: float) -> Mapping[tuple[str, Regime], BlockCost]:
    blocks = dict(unit.blocks)
    for (name, regime), block in unit.blocks.items():
        if regime == "overlapped":
            pairs = zip(unit.blocks[name, "alone"].segments, block.segments, strict=True)
            blocks[name, regime] = BlockCost(
                tuple((suffix, draw, blend(alone, beside, share)) for (suffix, draw, alone), (_, _, beside) in pairs)
            )
    return blocks


def _messages(unit: UnitCost, share: float) -> Mapping[tuple[str, Regime], Segment]:
    return {
        (name, regime): blend(unit.all_to_all[name, "alone"], segment, share) if regime == "overlapped" else segment
        for (name, regime), segment in unit.all_to_all.items()
    }


def blend(alone: Segment, beside: Segment, share: float) -> Segment:
    """A segment of which a share (0 to 1) runs beside something, in sum, by category and basis and piece by piece."""
    if share >= 1.0:
        return beside

    def mixed(first: float, second: float) -> float:
        return (1.0 - share) * first + share * second

    def table(first: Mapping[str, float], second: Mapping[str, float]) -> dict[str, float]:
        return {key: mixed(first.get(key, 0.0), second.get(key, 0.0)) for key in {**first, **second}}

    pieces = tuple(
        Piece(each.what, _blend_cost(apart.cost, each.cost, share))
        for apart, each in zip(alone.pieces, beside.pieces, strict=True)
    )
    return replace(
        beside,
        seconds=mixed(alone.seconds, beside.seconds),
        low=mixed(alone.low, beside.low),
        high=mixed(alone.high, beside.high),
        by_category=table(alone.by_category, beside.by_category),
        by_basis=table(alone.by_basis, beside.by_basis),
        pieces=pieces,
    )


def _blend_cost(alone: PieceCost, beside: PieceCost, share: float) -> PieceCost:
    """Of one kernel or collective; both say the same of it but for its seconds."""
    first, second = (
        {end: getattr(cost, end) for end in ("seconds", "low", "high") if hasattr(cost, end)}
        for cost in (alone, beside)
    )
    mixed = {end: (1.0 - share) * first[end] + share * second[end] for end in second}
    return replace(beside, **mixed)  # type: ignore[type-var]
