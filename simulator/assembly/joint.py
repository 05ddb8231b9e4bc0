"""Pipeline transfers that sender and receiver join: both end a chunk, meet, and wait for the transfer.

As in Megatron-LM's plain 1F1B (p2p_communication.py, send_forward_recv_backward) and torch's Schedule1F1B: what a rank sends,
and what its next chunk needs, goes between two chunks, and the next begins when all of it is there. A transfer is an operator
of its own on the sender's communication stream, behind the later of the two chunks that it waits for. (Round a ring of virtual
stages that would never end: an output is needed long after it is made, so that its sender would wait for itself.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.schedule.order import OrderedActions

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Meetings:
    """n transfers. sender, receiver (n,): the action that sends, and the one that needs it.

    after (n,): the action behind which the transfer stands; place (n,): its place among the transfers there. is_forward (n,).
    """

    sender: Ints
    receiver: Ints
    after: Ints
    place: Ints
    is_forward: NDArray[np.bool_]

    def counts(self, num_actions: int) -> Ints:
        """(actions,) transfers behind each action."""
        return np.bincount(self.after, minlength=num_actions).astype(np.int64)


def meetings(ordered: OrderedActions) -> Meetings:
    """All transfers between two ranks, in the order of their places."""
    half, receiver = np.nonzero((ordered.sources >= 0) & (ordered.ranks[ordered.sources] != ordered.ranks))
    sender = ordered.sources[half, receiver]
    after = np.maximum(sender, ordered.before[receiver])
    order = np.lexsort((receiver, after))
    sender, receiver, after, half = (array[order] for array in (sender, receiver, after, half))
    start = np.searchsorted(after, after)
    return Meetings(sender, receiver, after, np.arange(len(after)) - start, half == 0)


def meeting_edges(met: Meetings, ordered: OrderedActions, transfer: Ints, ends: Ints, first_compute: Ints) -> Ints:
    """(2, edges): a transfer waits for its two chunks (the sender's, and the one before the receiver's), the sender for it.

    transfer (n,): the operators; ends (actions, 2): last on the compute and the communication stream, -1 for none;
    first_compute (actions,).
    """
    edges = []
    for earlier in (met.sender, ordered.before[met.receiver]):
        for last in ends[earlier].T:
            there = (earlier >= 0) & (last >= 0)
            edges.append(np.stack((transfer[there], last[there])))
    following = following_actions(ordered)[met.sender]
    goes_on = following >= 0
    edges.append(np.stack((first_compute[following[goes_on]], transfer[goes_on])))
    return np.concatenate(edges, axis=1)


def sent_before(met: Meetings, ordered: OrderedActions, transfer: Ints) -> Ints:
    """(1, actions): the transfer of what the action before on the rank sent, -1 where it sent nothing."""
    found = np.full((1, len(ordered.actions)), -1, dtype=np.int64)
    following = following_actions(ordered)[met.sender]
    found[0, following[following >= 0]] = transfer[following >= 0]
    return found


def following_actions(ordered: OrderedActions) -> Ints:
    """(actions,): the next action on the same rank, -1 for the last."""
    following = np.full(len(ordered.actions), -1, dtype=np.int64)
    later = np.flatnonzero(ordered.before >= 0)
    following[ordered.before[later]] = later
    return following


def stream_chain(resource: Ints) -> Ints:
    """(2, edges): every operator behind the one before it on its resource."""
    order = np.argsort(resource, kind="stable")
    same = resource[order[1:]] == resource[order[:-1]]
    return np.stack((order[1:][same], order[:-1][same]))
