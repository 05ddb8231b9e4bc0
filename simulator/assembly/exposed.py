"""What a collective inside a block adds to the compute stream, beside the operator that runs at the same time.

    alone                c
    beside an operator   c * s * (1 - g / h) where c * s <= h: both start together, the operator has fewer SMs until the
                         collective is done, and the block goes on when both are; else h - g + c - h / s: the collective goes
                         on alone when the operator is done
    in n chunks          max(g', c) + min(g', c) / n + n * launch, less g: the GEMM makes or takes a chunk while another is
                         sent; the first (or last) chunk has nothing beside it, and each has a launch of its own. g' = g, or
                         g / (1 - held) of a GEMM whose grid leaves SMs to the reduction of what it makes

c: the collective alone, g: the operator alone, h: the operator with a collective beside it all the time (h >= g), s: how many
times as long the collective takes beside it (s >= 1). Low and high take the ends that make the difference small and large.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from simulator.workload.op import Collective, Op


class Cost(Protocol):
    """What a kernel or collective cost has to say."""

    @property
    def seconds(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...
    @property
    def basis(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Exposed:
    """Seconds on the compute stream, with low and high, and where they come from."""

    seconds: float
    low: float
    high: float
    basis: str


@dataclass(frozen=True, slots=True)
class Chunking:
    """number: chunks in which a GEMM and its collective run; 1: one behind the other. launch_s: of one more kernel each.
    held: share of its SMs that a GEMM leaves to a reduction all the time.
    """

    number: float = 1.0
    launch_s: float = 0.0
    held: float = 0.0

    def added(self, collective_s: float, gemm_s: float, *, reduces: bool = False) -> float:
        """Seconds that the two take together, less the GEMM's."""
        run_s = gemm_s / (1.0 - self.held) if reduces else gemm_s
        both = max(run_s, collective_s) + min(run_s, collective_s) / self.number + self.number * self.launch_s
        return both - gemm_s


UNCHUNKED = Chunking()


def partner(collective: Collective, ops: Mapping[str, Op], chunking: Chunking, *, with_weights: bool) -> Op | None:
    """The operator of the unit that runs at the same time. with_weights: W of the micro-batch comes directly behind its I."""
    if collective.beside:
        found = ops[collective.beside]
        return found if with_weights or found.phase != "W" else None
    return ops[collective.chunked_with] if chunking.number > 1 and collective.chunked_with else None


@dataclass(frozen=True, slots=True)
class Beside:
    """A partner's cost alone, and with a collective beside it all the time, which takes `stretch` times as long there."""

    alone: Cost
    held: Cost
    stretch: float = 1.0

    @property
    def loss(self) -> float:
        """Share of its rate that it loses beside a collective (0 to 1)."""
        return max(0.0, 1.0 - self.alone.seconds / self.held.seconds) if self.held.seconds else 0.0

    def added(self, collective_s: float, alone_s: float) -> float:
        """Seconds that both take together, less those of the partner alone."""
        held_s, stretched_s = alone_s / (1.0 - self.loss), collective_s * self.stretch
        if stretched_s <= held_s:
            return stretched_s * self.loss
        return held_s - alone_s + collective_s - held_s / self.stretch


def exposed(collective: Collective, cost: Cost, beside: Beside | None, chunking: Chunking) -> Exposed:
    """What the collective adds. beside: its partner, None where it runs alone."""
    if beside is None or cost.seconds == 0.0:
        return Exposed(cost.seconds, cost.low, cost.high, cost.basis)
    g, reduces = beside.alone, collective.op != "all_gather"
    added = beside.added if collective.beside else partial(chunking.added, reduces=reduces)
    value, low, high = added(cost.seconds, g.seconds), added(cost.low, g.high), added(cost.high, g.low)
    return Exposed(value, min(low, value), max(high, value), cost.basis)
