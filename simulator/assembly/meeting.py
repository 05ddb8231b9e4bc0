"""How kernels and messages that run beside one another share a GPU where kernels are launched with what is free.

DualPipe's kernels are launched on what dispatch and combine leave all the time (their grid is fixed), and were measured so:
every kernel of a pair has the price of the "overlapped" regime. Kernels of other executors are launched on the whole GPU and
lose SMs while a message is on its way. With C seconds of kernels and M of messages, both as they are beside the other, kernels
are slowed for the share min(1, M / C) of their time and messages for min(1, C / M) of theirs. Which kernels these are depends
on the timeline, so that all carry the same share.

A message that finds every SM taken starts when the kernel at work ends, whatever its stream's priority (own measurement,
hwprofiles/measurements/h200x8-beside-2026-11-27.yaml). With kernels of k seconds beside it, at a moment as likely as any other,
that is sum(k^2) / (2 sum(k)), the mean rest of a kernel that is met at random. Inside a node `collective_stretch` was measured
with it; messages over NICs wait it in front of their time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import fsum

from hwprofiles.kernels.shape import LOOP, Regime
from simulator.assembly.chunks import BlockCost, Piece, PieceCost, Segment, UnitCost
from simulator.assembly.collectives import FORWARD_BLOCKS
from simulator.costs.cost import CollectiveCost
from simulator.workload.op import Op

FORWARD_MESSAGES = frozenset(("dispatch_f", "combine_f"))
WEIGHTS = frozenset(("mlp_w", "attn_w"))


@dataclass(frozen=True, slots=True)
class Shares:
    """Of kernels' and of messages' time, that with the other beside it; 0 to 1. start_s: what a message waits for the end of a
    kernel.
    """

    kernels: float
    messages: float
    start_s: float = 0.0


def of_pair(forward: Sequence[UnitCost], backward: Sequence[UnitCost], *, waits: bool = True) -> Shares:
    """Of the layers of a pair's halves. waits: messages over NICs wait for the end of a kernel."""
    blocks = [*_kernels(forward, is_forward=True), *_kernels(backward, is_forward=False)]
    messages_s = _messages_s(forward, is_forward=True) + _messages_s(backward, is_forward=False)
    shares = _shares(fsum(segment.seconds for segment in blocks), messages_s)
    return replace(shares, start_s=shares.messages * rest_s(blocks)) if waits else shares


def rest_s(blocks: Iterable[Segment]) -> float:
    """What is left on average of a kernel of these that is met at a moment as likely as any other; 0 where there is none."""
    total = squares = 0.0
    for piece in (piece for block in blocks for piece in block.pieces):
        if isinstance(piece.what, Op) and (seconds := piece.cost.seconds) > 0.0:
            total += seconds
            squares += seconds**2 / _launches(piece.what)
    return squares / (2.0 * total) if total else 0.0


def _launches(op: Op) -> int:
    """Kernels one behind the other: of a loop over experts one each."""
    return op.shape.groups if op.shape.library == LOOP else op.shape.num_kernels


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
            known[key] = _blocks(unit, shares.kernels), _messages(unit, shares)
        blocks, messages = known[key]
        found.append(replace(unit, blocks=blocks, all_to_all=messages))
    return tuple(found)


def _shares(kernels_s: float, messages_s: float) -> Shares:
    return Shares(
        min(1.0, messages_s / kernels_s) if kernels_s else 1.0, min(1.0, kernels_s / messages_s) if messages_s else 1.0
    )


def _kernels(units: Iterable[UnitCost], *, is_forward: bool) -> Iterable[Segment]:
    return (
        segment
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


def _messages(unit: UnitCost, shares: Shares) -> Mapping[tuple[str, Regime], Segment]:
    found = dict(unit.all_to_all)
    for (name, regime), segment in unit.all_to_all.items():
        if regime == "overlapped":
            mixed = blend(unit.all_to_all[name, "alone"], segment, shares.messages)
            found[name, regime] = delayed(mixed, shares.start_s) if _is_over_nics(segment) else mixed
    return found


def _is_over_nics(message: Segment) -> bool:
    return any(isinstance(piece.cost, CollectiveCost) and piece.cost.bytes_nic > 0.0 for piece in message.pieces)


def delayed(message: Segment, start_s: float) -> Segment:
    """A message that waits before it starts: at least not at all, at most for a whole kernel where start_s is its mean rest."""
    if not start_s:
        return message

    def longer(table: Mapping[str, float]) -> dict[str, float]:
        scale = 1.0 + start_s / message.seconds
        return {key: seconds * scale for key, seconds in table.items()}

    return replace(
        message, seconds=message.seconds + start_s, high=message.high + 2.0 * start_s,
        by_category=longer(message.by_category), by_basis=longer(message.by_basis),
    )  # fmt: skip


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
