"""Messages of a step that use the same link at the same time: what sharing it adds to each of them.

A GPU has four links: NIC out, NIC in, scale-up out, scale-up in. Dispatch, combine and collectives of data parallelism send as
much as they receive; a pipeline transfer leaves the sender and enters the receiver. A message takes of a link what its bytes
take at the rate that software achieves there, over its own duration (latency and copies by SMs leave the rest to others); what
more than one wants is shared max-min, from event to event (engine/event_loop.py). The operators that it lengthens become
classes of their own, with the added seconds as a category.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import fsum

import numpy as np
from numpy.typing import NDArray

from simulator.assembly.chunks import NUM_STREAMS, Segment
from simulator.assembly.step_graph import StepGraph
from simulator.assembly.unit_costs import INSIDE
from simulator.engine.dag import IntArray, StepDag
from simulator.engine.event_loop import Flows, event_loop

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LINK_SHARING = "link_sharing"
WAITED = tuple(dict.fromkeys(INSIDE.values()))
"""Categories of collectives that stand among the kernels of a block."""
LINKS = 4
"""Of a GPU: NIC out and in, scale-up out and in."""
STEPS = 16
"""Lengthened operators are told apart by what is added, in steps of a sixteenth of their seconds; each takes the mean of its
step.
"""


@dataclass(frozen=True, eq=False)
class LinkSharing:
    """What sharing adds to a graph's operators, for graphs of the same DAG at other prices too.

    dag: with classes for the lengthened ones behind the others; old_class, added_s (lengthened classes,): what each was, and
    the seconds added.
    """

    of: StepDag
    dag: StepDag
    old_class: Ints
    added_s: Floats

    def is_of(self, graph: StepGraph) -> bool:
        """Whether the graph has the operators for which it was found."""
        old, new = self.of, graph.dag
        names = ("op_class", "resource", "pred_ptr", "pred")
        return old is new or all(np.array_equal(getattr(old, name), getattr(new, name)) for name in names)

    def apply(self, graph: StepGraph) -> StepGraph:
        """The graph with lengthened operators."""
        if not len(self.added_s):
            return graph
        pairs = zip(self.old_class.tolist(), self.added_s.tolist(), strict=True)
        longer = tuple(_lengthened(graph.classes[row], seconds) for row, seconds in pairs)
        labels = tuple(graph.labels[row] for row in self.old_class.tolist())
        return replace(graph, dag=self.dag, classes=(*graph.classes, *longer), labels=(*graph.labels, *labels))


def link_sharing(graph: StepGraph) -> LinkSharing:
    """What the step's messages, evenly loaded, take from one another. Raises as `event_loop` does."""
    flows = flows_of(graph)
    if flows is None:
        return LinkSharing(graph.dag, graph.dag, np.empty(0, dtype=np.int64), np.empty(0))
    added = event_loop(graph.dag, graph.class_seconds(), flows).added_s
    return _by_class(graph, added)


def flows_of(graph: StepGraph) -> Flows | None:
    """The messages of the step as flows; None where no two of them ever have a link in common."""
    dag, ranks = graph.dag, graph.num_ranks
    uses = np.array([_use(segment) for segment in graph.classes]).reshape(-1, 4)
    rank = dag.resource.astype(np.int64) // NUM_STREAMS
    used = np.flatnonzero((uses[dag.op_class, :2] > 0.0).any(axis=1))
    to = rank.copy()
    sent = graph.spans.inputs[:, :2]
    there = (sent >= 0) & (rank[sent] != graph.spans.rank[:, None])
    to[sent[there]] = np.broadcast_to(graph.spans.rank[:, None], sent.shape)[there]
    key = (dag.op_class[used].astype(np.int64) * ranks + rank[used]) * ranks + to[used]
    rows, first, flow = np.unique(key, return_index=True, return_inverse=True)
    links = (rows // ranks % ranks * LINKS)[:, None] + np.arange(LINKS)
    links[:, [1, 3]] += ((rows % ranks - rows // ranks % ranks) * LINKS)[:, None]
    nic, scale_up, active, exposed = uses[rows // ranks // ranks].T
    loads = np.stack((nic, nic, scale_up, scale_up), axis=1)
    if not _may_share(links, loads, dag.resource[used][first], ranks * LINKS):
        return None
    of_op = np.full(dag.num_ops, -1, dtype=np.int32)
    of_op[used] = flow
    return Flows(of_op, links, loads, ranks * LINKS, np.stack((active, exposed), axis=1))


def _use(segment: Segment) -> tuple[float, float, float, float]:
    """Of a segment's messages: the shares of NIC and scale-up link that they take while they run; the share of its seconds in
    which they do, and in which kernels wait for them (those inside a block are partly hidden beside its kernels).
    """
    active = min(segment.seconds, fsum(message.cost.seconds for message in segment.messages))
    if not active:
        return 0.0, 0.0, 0.0, 0.0
    nic_s, scale_up_s = (fsum(getattr(each.cost, key) for each in segment.messages) for key in ("nic_s", "scale_up_s"))
    if all(message.category not in WAITED for message in segment.messages):
        return min(1.0, nic_s / segment.seconds), min(1.0, scale_up_s / segment.seconds), 1.0, 1.0
    waits = fsum(segment.by_category.get(category, 0.0) for category in WAITED)
    shares = active / segment.seconds, min(active, waits) / segment.seconds
    return min(1.0, nic_s / active), min(1.0, scale_up_s / active), *shares


def _may_share(links: Ints, loads: Floats, resource: IntArray, num_links: int) -> bool:
    """Whether operators of two resources, which may run at the same time, have a link in common."""
    first = np.full(num_links, -1, dtype=np.int64)
    for of, used, at in zip(links.tolist(), (loads > 0.0).tolist(), resource.tolist(), strict=True):
        for link, is_used in zip(of, used, strict=True):
            if is_used and first[link] not in (-1, at):
                return True
            if is_used:
                first[link] = at
    return False


def _by_class(graph: StepGraph, added: Floats) -> LinkSharing:
    """Operators of one class to which about as much is added share a new class, with the mean of it."""
    dag, seconds = graph.dag, graph.class_seconds()
    longer = np.flatnonzero(added > 0.0)
    old = dag.op_class[longer].astype(np.int64)
    step = np.minimum(np.ceil(added[longer] / seconds[old] * STEPS), np.iinfo(np.int32).max).astype(np.int64)
    pairs, own = np.unique(np.stack((old, step)), axis=1, return_inverse=True)
    own = own.reshape(-1)
    counts = np.bincount(own, minlength=pairs.shape[1])
    mean = np.bincount(own, added[longer], minlength=pairs.shape[1]) / np.maximum(counts, 1)
    op_class = dag.op_class.copy()
    op_class[longer] = dag.num_classes + own
    changed = replace(dag, op_class=op_class, num_classes=dag.num_classes + pairs.shape[1])
    return LinkSharing(dag, changed if len(longer) else dag, pairs[0], mean)


def _lengthened(segment: Segment, seconds: float) -> Segment:
    """The segment with seconds added, of the same bases; its message is told as it is alone."""
    if not segment.seconds:
        return segment
    factor = 1.0 + seconds / segment.seconds
    by_category: Mapping[str, float] = {**segment.by_category, LINK_SHARING: seconds}
    return replace(
        segment,
        seconds=segment.seconds + seconds,
        low=segment.low + seconds,
        high=segment.high + seconds,
        by_category=by_category,
        by_basis={name: of * factor for name, of in segment.by_basis.items()},
    )
