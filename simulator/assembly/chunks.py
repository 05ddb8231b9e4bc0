"""What one operator of the step graph stands for, and how a unit's blocks become such operators.

A segment is a run of kernels on one stream with nothing waiting in between: of each block the kernels that scale with the
expert rows and those that do not are summed apart, and the attention core stands alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from hwprofiles.kernels.shape import Regime
from simulator.costs.cost import CollectiveCost
from simulator.workload.op import Collective, Op

COMPUTE, COMM, DP, COPY_OUT, COPY_IN, HOST = range(6)
"""Streams of a rank: kernels; all-to-all and pipeline transfers (one NIC); data-parallel collectives; copies to the host, and
from it (one copy engine each); the process that issues all of these.
"""
NUM_STREAMS = 6

DrawKind = Literal["none", "rank", "arriving", "leaving", "documents", "windowed"]
"""Which load multiplies an operator: the rows of the lane's own experts, what arrives where it is, or what leaves the fullest
place; of an attention core what the documents of its sequences attend to, without a window or inside it."""


@dataclass(frozen=True, slots=True)
class Message:
    """A collective that a segment runs, under the name by which results tell of it. category: of its seconds."""

    name: str
    cost: CollectiveCost
    category: str


class PieceCost(Protocol):
    """What a timeline tells of the cost of one kernel or collective."""

    @property
    def seconds(self) -> float: ...
    @property
    def basis(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Piece:
    """One kernel or collective of a segment, and its cost there (gaps between kernels are the segment's)."""

    what: Op | Collective | Message
    cost: PieceCost


@dataclass(frozen=True, slots=True)
class Issue:
    """Seconds in which the host issues a run of kernels; lead_s: how long after it began the run can start to be as good as
    never held up, its own time behind that; at most `seconds`. ahead_s: of both, what it issues before it waits for a router.
    """

    seconds: float = 0.0
    lead_s: float = 0.0
    ahead_s: float = 0.0


NO_ISSUE = Issue()


@dataclass(frozen=True, slots=True)
class Segment:
    """Seconds of a run of kernels, in sum and by category and basis (both maps sum to `seconds`); flop: what it executes.

    messages: the collectives in it, for the results. pieces: kernels and collectives in order, as they are priced with nothing
    but their own regime beside them, for whoever wants to know what an operator is made of. issue: what it takes the host.
    """

    seconds: float
    low: float
    high: float
    by_category: Mapping[str, float] = field(default_factory=dict)
    by_basis: Mapping[str, float] = field(default_factory=dict)
    flop: float = 0.0
    messages: tuple[Message, ...] = ()
    pieces: tuple[Piece, ...] = ()
    issue: Issue = NO_ISSUE


@dataclass(frozen=True, slots=True)
class BlockCost:
    """A block's segments in order: (suffix, draw, segment)."""

    segments: tuple[tuple[str, DrawKind, Segment], ...]


@dataclass(frozen=True, slots=True)
class UnitCost:
    """A unit's costs by regime. all_to_all: key → segment (absent where nothing is sent). replays: as of `Unit`.

    beside: its blocks with a data-parallel collective beside them all the time; empty where none is ever.
    apart: blocks of I as they are where W does not come directly behind it, where that makes a difference. is_head: no layer.
    """

    name: str
    blocks: Mapping[tuple[str, Regime], BlockCost]
    all_to_all: Mapping[tuple[str, Regime], Segment]
    is_moe: bool
    replays: int = 1
    beside: Mapping[str, BlockCost] = field(default_factory=dict)
    apart: Mapping[tuple[str, Regime], BlockCost] = field(default_factory=dict)
    is_head: bool = False

    def of_lone_input_gradient(self) -> UnitCost:
        """The unit in an action whose weight gradients come later."""
        return replace(self, blocks={**self.blocks, **self.apart}) if self.apart else self


@dataclass(frozen=True, slots=True)
class Copy:
    """What a unit's forward leaves for the host, or its backward needs from it."""

    unit: int
    segment: Segment


@dataclass(frozen=True, slots=True)
class Copies:
    """Of a stage and micro-batch: behind units of its forward, and before units of its backward, each in its order."""

    out: tuple[Copy, ...] = ()
    back: tuple[Copy, ...] = ()


@dataclass(frozen=True, slots=True)
class StageCost:
    """Units in forward order; copies: of what the host holds of their activations."""

    stage: int
    units: tuple[UnitCost, ...]
    copies: Copies = Copies()


@dataclass(frozen=True, slots=True)
class Transfers:
    """Pipeline transfers behind an action's two halves: of its output, and of its input's gradient. None: nothing leaves."""

    output: Segment | None = None
    gradient: Segment | None = None


NO_TRANSFERS = Transfers()


Origin = tuple[str, tuple[str, Regime] | int, int]
"""Where an operator's segment stands in its half: ("block", key of the block, place), ("all_to_all", key, 0),
("gathers" or "reduces", bucket, place), ("copies", place among the half's, 0), ("send", 0, 0); of the host's ("host", whether
it is there for the operator behind it, synchronisations in it).
"""


@dataclass(slots=True)
class LocalOp:
    """One operator of an action's template; predecessors are indices in the template."""

    label: str
    segment: Segment
    stream: int
    preds: list[int]
    needs: str = ""
    draw: DrawKind = "none"
    half: str = "F"
    unit: int = -1
    is_join: bool = False
    origin: Origin = ("send", 0, 0)

    @property
    def is_send(self) -> bool:
        """Whether it is a pipeline transfer."""
        return self.origin[0] == "send"
