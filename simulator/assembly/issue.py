"""What it takes the host to issue a unit, and what of that holds a run of its kernels up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import fsum

from simulator.assembly.chunks import Issue, Piece
from simulator.workload.op import Op, Work


@dataclass(frozen=True, slots=True)
class UnitIssue:
    """Host seconds of a unit: of every operator and collective of a block, by the object; of every message, by its key; ahead:
    of what stands between a router and its dispatch.
    """

    blocks: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    messages: Mapping[str, float] = field(default_factory=dict)
    ahead: Mapping[str, float] = field(default_factory=dict)

    def of_message(self, key: str, cast: Iterable[Work]) -> Issue:
        """A message, behind what stands before it and the cast of what it sends."""
        casts, ahead = self.blocks.get("combine_b_cast", {}), self.ahead.get(key, 0.0)
        seconds = fsum((ahead, self.messages.get(key, 0.0), *(casts.get(id(each), 0.0) for each in cast)))
        return Issue(seconds, seconds, ahead)


NOTHING_ISSUED = UnitIssue()


def issue_of(pieces: Iterable[Piece], issued: Mapping[int, float], gap_s: float) -> Issue:
    """What issuing a run takes (host.py has the formula): each piece begins behind its launch and behind the piece before.

    issued: host seconds by the object of the piece. gap_s: of the stream, behind each of a piece's kernels.
    """
    host = end = busy = 0.0
    for piece in pieces:
        what = piece.what
        seconds = piece.cost.seconds + (what.shape.num_kernels * gap_s if isinstance(what, Op) else 0.0)
        host += issued.get(id(what), 0.0)
        busy += seconds
        end = max(host, end) + seconds
    return Issue(host, max(0.0, min(host, end - busy)))
