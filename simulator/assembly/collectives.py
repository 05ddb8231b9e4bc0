"""Data-parallel collectives inside a stage's actions: gathers before units, reductions behind them, what they cost compute.

Buckets of a pass run one after the other on the rank's data-parallel stream, in the order in which they can start. A unit
waits for its gather. A reduction starts when the weight gradients of its bucket are there and runs beside the backward that
goes on. A gather may run ahead of compute by so many buckets: with one ahead (FSDP's prefetch), that of unit i runs while
unit i-1 computes and not before unit i-2 is done, so that the parameters of two are there.

Never count twice: a kernel beside such a collective is slowed once. What runs in the "overlapped" regime pays for the SMs of
dispatch and combine already and is left alone; the "alone" kernels of a pass are slowed for the share of their time in which
its collectives run. Which kernels exactly these are depends on the timeline, so that all of the pass carry the same share.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from math import fsum

from simulator.assembly.chunks import BlockCost, Segment, UnitCost

INTERFERENCE = "interference"
FORWARD_BLOCKS = frozenset(("attn_f", "mlp_f_local", "mlp_f_routed"))


@dataclass(frozen=True, slots=True)
class Bucket:
    """One gather before, or one reduction behind, a unit of a stage: (name, seconds) of its collectives in order."""

    unit: int
    collectives: tuple[tuple[str, Segment], ...]

    @property
    def seconds(self) -> float:
        """All of them, one after the other."""
        return fsum(segment.seconds for _, segment in self.collectives)


@dataclass(frozen=True, slots=True)
class PassCollectives:
    """What one pass of a stage gathers and reduces, in the order of its units.

    ahead: buckets that a gather may run ahead of compute; None: any number (all gathered parameters are held).
    reduces_beside: the pass goes on beside a reduction, else its next unit waits for it.
    """

    gathers: tuple[Bucket, ...] = ()
    reduces: tuple[Bucket, ...] = ()
    ahead: int | None = None
    reduces_beside: bool = True

    @property
    def beside_s(self) -> float:
        """Seconds of collectives with compute of the same pass beside them: the first gather and the last reduction have
        none.
        """
        gathers = () if self.ahead == 0 else self.gathers[1:]
        reduces = self.reduces[:-1] if self.reduces_beside else ()
        return fsum(bucket.seconds for bucket in (*gathers, *reduces))


NO_COLLECTIVES = PassCollectives()


@dataclass(frozen=True, slots=True)
class StageCollectives:
    """Of a stage on one of its ranks: in its forwards and backwards, in the first and last of a step, and at its end.

    reduces_at_end: when the whole stage's gradients are there; gathers_at_end: behind the optimizer.
    """

    forward: PassCollectives = NO_COLLECTIVES
    backward: PassCollectives = NO_COLLECTIVES
    first_forward: PassCollectives = NO_COLLECTIVES
    last_backward: PassCollectives = NO_COLLECTIVES
    reduces_at_end: tuple[tuple[str, Segment], ...] = ()
    gathers_at_end: tuple[tuple[str, Segment], ...] = ()


@dataclass(frozen=True, slots=True)
class ActionCollectives:
    """Of an action's forward half and of its backward half."""

    forward: PassCollectives = NO_COLLECTIVES
    backward: PassCollectives = NO_COLLECTIVES


@dataclass(slots=True)
class Progress:
    """How far a pass is with its collectives. gathered: unit → operators that bring its parameters; issued: gathers begun."""

    plan: PassCollectives
    gathered: dict[int, list[int]] = field(default_factory=dict)
    issued: int = 0

    def due(self, unit: int | None) -> Iterable[Bucket]:
        """The gathers that may begin when a unit is about to start (None: the pass itself), in order; marks them issued."""
        gathers, ahead = self.plan.gathers, self.plan.ahead
        at = next((i for i, bucket in enumerate(gathers) if bucket.unit == unit), None)
        if ahead is None:
            upto = len(gathers)
        elif unit is None:
            upto = ahead
        else:
            upto = self.issued if at is None else at + 1 + ahead
        found = gathers[self.issued : upto]
        self.issued = max(self.issued, min(upto, len(gathers)))
        return found


def slowed(units: Sequence[UnitCost], plan: PassCollectives, *, is_forward: bool) -> tuple[UnitCost, ...]:
    """The units with the "alone" kernels of a pass slowed for the share of their time that its collectives run."""
    computing = fsum(
        segment.seconds
        for unit in units
        for (name, regime), block in unit.blocks.items()
        if regime == "alone" and (name in FORWARD_BLOCKS) == is_forward
        for _, _, segment in block.segments
    )
    share = min(1.0, plan.beside_s / computing) if computing else 0.0
    return tuple(_slowed(unit, share, is_forward) for unit in units) if share else tuple(units)


def _slowed(unit: UnitCost, share: float, is_forward: bool) -> UnitCost:
    blocks = dict(unit.blocks)
    for name, beside in unit.beside.items():
        if (name in FORWARD_BLOCKS) == is_forward:
            alone = blocks[name, "alone"]
            pairs = zip(alone.segments, beside.segments, strict=True)
            blocks[name, "alone"] = BlockCost(
                tuple((suffix, draw, mixed(segment, other, share)) for (suffix, draw, segment), (_, _, other) in pairs)
            )
    return replace(unit, blocks=blocks)


def mixed(alone: Segment, beside: Segment, share: float) -> Segment:
    """A segment of which a share of the work runs beside a collective (0 to 1): never shorter than alone."""

    def mix(first: float, second: float) -> float:
        return first + share * max(0.0, second - first)

    added = mix(alone.seconds, beside.seconds) - alone.seconds
    if not added:
        return alone
    by_basis = dict(alone.by_basis)
    total = fsum(beside.by_basis.values())
    for basis, seconds in beside.by_basis.items():
        by_basis[basis] = by_basis.get(basis, 0.0) + added * seconds / total
    return replace(
        alone,
        seconds=alone.seconds + added,
        low=mix(alone.low, beside.low),
        high=mix(alone.high, beside.high),
        by_category={**alone.by_category, INTERFERENCE: added},
        by_basis=by_basis,
    )
