"""What each collective of a step takes alone: the answer to "what should my dispatch reach?"."""

from __future__ import annotations

from math import ceil

from hwprofiles.units import GIGA
from simulator.assembly.chunks import Message
from simulator.assembly.step_graph import StepGraph
from simulator.results.step_result import CollectiveTime


def collective_times(graph: StepGraph) -> tuple[CollectiveTime, ...]:
    """The distinct collectives that the graph runs, in the order of its classes; what sends nothing is left out."""
    rows = (_row(message) for segment in graph.classes for message in segment.messages)
    return tuple(dict.fromkeys(row for row in rows if row is not None))


def _row(message: Message) -> CollectiveTime | None:
    cost = message.cost
    if cost.counted is None or cost.seconds == 0:
        return None
    return CollectiveTime(
        name=message.name,
        ranks=cost.counted.ranks,
        nodes=cost.counted.nodes,
        bytes=ceil(cost.counted.num_bytes),
        seconds=cost.seconds,
        gb_per_s=cost.counted.rate_bytes / cost.seconds / GIGA,
        counted_as=cost.counted.counted_as,
        limit=cost.bound_by,
        basis=cost.basis,
    )
