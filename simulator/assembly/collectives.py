"""Data-parallel collectives inside a stage's actions: gathers before units, reductions behind them, what they cost compute.

Buckets of a pass run one after the other on the rank's data-parallel stream, in the order in which they can start. A unit
waits for its gather. A reduction starts when the weight gradients of its bucket are there and runs beside the backward that
goes on. A gather may run ahead of compute by so many buckets: with one ahead (FSDP's prefetch), that of unit i runs while
unit i-1 computes and not before unit i-2 is done, so that the parameters of two are there.

Kernels and collectives beside one another slow each other down, by the SMs and memory bandwidth that a collective takes and the
SMs that it waits for. Never count twice: a kernel beside such a collective is slowed once. What runs in the "overlapped" regime
pays for the SMs of dispatch and combine already and is left alone; the "alone" kernels of a pass are slowed for the share of
their time in which its collectives run. Which kernels these are depends on the timeline, so that all carry the same share.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import fsum

from hwprofiles.kernels.shape import Regime
from simulator.assembly.chunks import BlockCost, Segment, UnitCost

Blocks = Mapping[tuple[str, Regime], BlockCost]
INTERFERENCE = "interference"
FORWARD_BLOCKS = frozenset(("attn_f", "mlp_f_local", "mlp_f_routed", "shared_f_up", "shared_f_down"))


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
    reduces_beside: the pass goes on beside a reduction, else its next unit waits for it. stretch: how many times as long a
    collective on scale-up links takes beside kernels, 1 or more.
    """

    gathers: tuple[Bucket, ...] = ()
    reduces: tuple[Bucket, ...] = ()
    ahead: int | None = None
    reduces_beside: bool = True
    stretch: float = 1.0

    @property
    def beside(self) -> tuple[Bucket, ...]:
        """Those with compute of the same pass beside them: gathers before its first unit and reductions behind its last have
        none.
        """
        gathers = () if self.ahead == 0 else self.gathers
        reduces = self.reduces if self.reduces_beside else ()
        return (
            *(bucket for bucket in gathers if bucket.unit != gathers[0].unit),
            *(bucket for bucket in reduces if bucket.unit != reduces[-1].unit),
        )

    @property
    def beside_s(self) -> float:
        """Seconds of these."""
        return fsum(bucket.seconds for bucket in self.beside)


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

    def stretched(self, stretch: float) -> StageCollectives:
        """The same with another stretch of collectives beside kernels; passes that are one object stay one."""
        old = (self.forward, self.backward, self.first_forward, self.last_backward)
        new = {id(each): each if each is NO_COLLECTIVES else replace(each, stretch=stretch) for each in old}
        forward, backward, first, last = (new[id(each)] for each in old)
        return replace(self, forward=forward, backward=backward, first_forward=first, last_backward=last)


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


def side_by_side(
    units: Sequence[UnitCost], plan: PassCollectives, *, is_forward: bool
) -> tuple[tuple[UnitCost, ...], PassCollectives]:
    """A pass and its collectives as they run beside one another.

    H: seconds of the pass's kernels with a collective beside them all the time, R: of those that run when a collective can.
    Collectives take longer while kernels run (`_own_stretch`), but never longer than until these are done and then at their own
    pace: D becomes at most D + R (1 - 1 / stretch). "Alone" kernels are slowed for the share min(D, R) / H of their work: in so
    many seconds that much is done.
    """
    each_s = [_held_s(unit, is_forward) for unit in units]
    held = fsum(each_s)
    if not held or not plan.beside_s:
        return tuple(units), plan
    room = fsum(each_s[idx] for idx in _with_company(plan, len(units), is_forward))
    each = [segment for bucket in plan.beside for _, segment in bucket.collectives]
    longer = {id(segment): _own_stretch(segment, plan.stretch) for segment in each}
    near = fsum(segment.seconds for segment in each if longer[id(segment)] > 1.0)
    added = fsum(segment.seconds * (longer[id(segment)] - 1.0) for segment in each)
    part = min(1.0, room * (1.0 - near / (near + added)) / added) if added else 0.0
    factors = {key: 1.0 + (stretch - 1.0) * part for key, stretch in longer.items()}
    beside = {id(bucket): _stretched(bucket, factors) for bucket in plan.beside}
    grown = replace(
        plan,
        gathers=tuple(beside.get(id(bucket), bucket) for bucket in plan.gathers),
        reduces=tuple(beside.get(id(bucket), bucket) for bucket in plan.reduces),
    )
    share = min(grown.beside_s, room) / held
    slowed: dict[int, Blocks] = {}
    for unit in units:
        if id(unit.blocks) not in slowed:
            slowed[id(unit.blocks)] = _slowed(unit, share, is_forward)
    return tuple(replace(unit, blocks=slowed[id(unit.blocks)]) for unit in units), grown


def _held_s(unit: UnitCost, is_forward: bool) -> float:
    """Seconds of a unit's "alone" kernels in a pass with a collective beside them all the time."""
    return fsum(
        segment.seconds
        for (name, regime), block in unit.blocks.items()
        if regime == "alone" and (name in FORWARD_BLOCKS) == is_forward
        for _, _, segment in unit.beside.get(name, block).segments
    )


def _with_company(plan: PassCollectives, num_units: int, is_forward: bool) -> set[int]:
    """Units that may have a collective of the pass beside them: those before the last gather's, and behind the first
    reduction's.
    """
    order = [*range(num_units)] if is_forward else [*reversed(range(num_units))]
    beside = [id(bucket) for bucket in plan.beside]
    gathers = [order.index(bucket.unit) for bucket in plan.gathers if id(bucket) in beside]
    reduces = [order.index(bucket.unit) for bucket in plan.reduces if id(bucket) in beside]
    return {*order[: max(gathers, default=0)], *order[min(reduces, default=num_units) + 1 :]}


def _own_stretch(segment: Segment, stretch: float) -> float:
    """How many times as long a collective takes beside kernels."""
    beside_s = fsum(message.cost.beside_s(stretch) for message in segment.messages)
    return max(1.0, beside_s / segment.seconds) if segment.seconds else 1.0


def _stretched(bucket: Bucket, factors: Mapping[int, float]) -> Bucket:
    """factors: by the segment itself."""
    return replace(
        bucket, collectives=tuple((name, _times(segment, factors[id(segment)])) for name, segment in bucket.collectives)
    )


def _times(segment: Segment, factor: float) -> Segment:
    """A segment that takes so many times as long; its messages are told as they are alone."""
    if factor == 1.0:
        return segment
    return replace(
        segment,
        seconds=segment.seconds * factor,
        low=segment.low * factor,
        high=segment.high * factor,
        by_category={name: seconds * factor for name, seconds in segment.by_category.items()},
        by_basis={name: seconds * factor for name, seconds in segment.by_basis.items()},
    )


def _slowed(unit: UnitCost, share: float, is_forward: bool) -> Blocks:
    """The unit's blocks; of units that share theirs, the layers of a kind, those of any one."""
    blocks = dict(unit.blocks)
    for name, beside in unit.beside.items():
        if (name in FORWARD_BLOCKS) == is_forward:
            alone = blocks[name, "alone"]
            pairs = zip(alone.segments, beside.segments, strict=True)
            blocks[name, "alone"] = BlockCost(
                tuple((suffix, draw, mixed(segment, other, share)) for (suffix, draw, segment), (_, _, other) in pairs)
            )
    return blocks


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
