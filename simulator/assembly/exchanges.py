"""Hosts that wait for their GPU where a pipeline exchange stands between two actions.

As Megatron-LM does behind every batched send and receive (core/pipeline_parallel/p2p_communication.py: torch.cuda.synchronize
with batch_p2p_comm and batch_p2p_sync, both so by default): the call goes on when the GPU has done all that it was given, on
any stream, when what it sends is sent and what it receives is there. So the host begins the next action from nothing. The
action's first kernel waits for the same, so that it is known what else it waits for while its host waits.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from simulator.assembly.chunks import COMPUTE, HOST
from simulator.assembly.joint import Meetings, following_actions
from simulator.assembly.shapes import Ints, Shape
from simulator.schedule.order import OrderedActions


def exchange_edges(ordered: OrderedActions, shapes: Sequence[Shape], shape_of: Ints, base: Ints, inputs: Ints) -> Ints:
    """(2, edges): what an action with an exchange before it waits for, from its first operators of the host and of kernels.

    inputs (2, actions): what brings the forward's and the backward's input, -1 for none.
    """
    first, last = (
        np.stack([getattr(shape, name) for shape in shapes])[shape_of]
        for name in ("first_on_stream", "last_on_stream")
    )  # fmt: skip
    first, last = (np.where(each >= 0, base[:-1, None] + each, -1) for each in (first, last))
    last[:, HOST] = -1
    exchanges = np.array([group.exchanges for group in ordered.groups], dtype=np.bool_)[ordered.group_of]
    edges = []
    for rank in np.unique(ordered.ranks):
        members = np.flatnonzero(ordered.ranks == rank)
        done = np.maximum.accumulate(last[members], axis=0)
        before = np.concatenate((np.full_like(done[:1], -1), done[:-1]))
        waited = np.concatenate((before, inputs[:, members].T), axis=1)
        for stream in (HOST, COMPUTE):
            target = np.where(exchanges[members], first[members, stream], -1)
            edges.append(_pairs(target, waited))
    return np.concatenate(edges, axis=1)


def joint_exchange_edges(
    met: Meetings, ordered: OrderedActions, shapes: Sequence[Shape], shape_of: Ints, base: Ints, joined: Ints
) -> Ints:
    """(2, edges): the host of a sender waits for the transfers that it joined, the operators `joined`."""
    following = following_actions(ordered)[met.sender]
    first = np.array([shape.first_on_stream[HOST] for shape in shapes])[shape_of]
    target = np.where((following >= 0) & (first[following] >= 0), base[following] + first[following], -1)
    return _pairs(target, joined[:, None])


def _pairs(target: Ints, waited: Ints) -> Ints:
    """(2, edges) from each target (n,) to each of its row of waited (n, m), without those that are -1."""
    at, column = np.nonzero((target[:, None] >= 0) & (waited >= 0))
    return np.stack((target[at], waited[at, column]))
