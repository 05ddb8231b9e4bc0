"""The operators of one action in a topological order, and the segments that they run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from simulator.assembly.chunks import COMM, COMPUTE, DP, DrawKind, LocalOp, Origin, Segment, Transfers
from simulator.assembly.collectives import Bucket
from simulator.assembly.sides import Side

INPUT_F, INPUT_B, INPUT_BOTH = "input_f", "input_b", "input_both"


@dataclass(slots=True)
class Template:
    """Operators of one action in a topological order; what the neighbours wait for.

    out_f, out_b: operators after which the chunk's output is there on this rank; send_f, send_b: its transfer, -1 if none.
    early_gather: the first gather, which waits for the compute before the last gathered unit of the action before; next_gather:
    the one that waits for the end of that action; -1 if none; of a pair's two, the first on their stream. before_last: the
    compute before this action's last gathered unit.
    closing: the last reduction that nothing may run beside, for which the rank's next action waits; -1 if none.
    first_back: the first copy from the host, which waits for its copy there and for the actions before the last; -1 if none.
    bare: the template without the operators of the host (host.py), where it has such.
    """

    ops: list[LocalOp] = field(default_factory=list)
    out_f: list[int] = field(default_factory=list)
    out_b: list[int] = field(default_factory=list)
    send_f: int = -1
    send_b: int = -1
    early_gather: int = -1
    next_gather: int = -1
    before_last: int = -1
    closing: int = -1
    first_back: int = -1
    bare: Template | None = None

    def put(
        self, label: str, segment: Segment | None, stream: int, preds: Sequence[int], needs: str, half: str, unit: int,
        draw: DrawKind = "none", *, is_join: bool = False, origin: Origin = ("send", 0, 0),
    ) -> list[int]:  # fmt: skip
        """Appends an operator; returns what a successor has to wait for (its own index, or `preds` if there is nothing)."""
        if segment is None:
            return list(preds)
        self.ops.append(
            LocalOp(label, segment, stream, list(preds), needs, draw, half, unit, is_join=is_join, origin=origin)
        )
        return [len(self.ops) - 1]

    def stream_ends(self) -> list[int]:
        """The last operator so far of kernels and of messages."""
        return sorted({op.stream: i for i, op in enumerate(self.ops) if op.stream in (COMPUTE, COMM)}.values())

    def last_compute(self) -> list[int]:
        """The last kernels so far, as predecessors."""
        return next(([i] for i in range(len(self.ops) - 1, -1, -1) if self.ops[i].stream == COMPUTE), [])

    def collect(self, bucket: Bucket, preds: Sequence[int], half: str, which: tuple[str, int]) -> list[int]:
        """A bucket's collectives one after the other; returns what waits for them. which: the bucket of the half's plan."""
        done = list(preds)
        for i, (name, segment) in enumerate(bucket.collectives):
            done = self.put(name, segment, DP, done, "", half, bucket.unit, is_join=True, origin=(*which, i))
        return done

    def segments(self, sides: Mapping[str, Side], sent: Transfers) -> list[Segment]:
        """Every operator's segment of sides of the same form at other prices, without ordering them again."""
        return [_segment(op, sides[op.half], sent) for op in self.ops]


def _segment(op: LocalOp, side: Side, sent: Transfers) -> Segment:
    """What an operator runs, looked up where the template took it from."""
    what, key, place = op.origin
    if what == "block":
        found: Segment | None = side.units[op.unit].blocks[key].segments[place][2]  # type: ignore[index]
    elif what == "all_to_all":
        found = side.units[op.unit].all_to_all[key]  # type: ignore[index]
    elif what == "send":
        found = sent.output if op.half == "F" else sent.gradient
    elif what == "copies":
        found = side.copies[key].segment  # type: ignore[index]
    else:
        buckets = side.plan.gathers if what == "gathers" else side.plan.reduces
        found = buckets[key].collectives[place][1]  # type: ignore[index]
    assert found is not None
    return found
