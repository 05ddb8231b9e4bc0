"""All actions of a schedule in one order in which each finds its inputs done, as arrays: what the step graph is filled from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from simulator.errors import InconsistentSimulation
from simulator.schedule.action import Action, Schedule
from simulator.schedule.check import YIELD_OF, Unit, needs_of

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Group:
    """Actions alike. example: one of them. first: the stage whose first forward on the rank it is; last: whose last B or W.
    exchanges: something goes to or comes from another rank between the action before and this one.
    """

    rank: int
    example: Action
    first: int | None
    last: int | None
    exchanges: bool


@dataclass(frozen=True, eq=False)
class OrderedActions:
    """n actions of all ranks, an action behind all that it waits for.

    ranks (n,). before (n,): the action before on the same rank, -1 for the first.
    sources (2, n): the action that the forward's and the backward's input comes from, -1 for none. from_backward (2, n): that
    input is a gradient (else an output: the last stage's backward starts from its own forward).
    micro_batches (2, n): of the forward and of the backward half, the same twice for an action of one half.
    groups: actions alike, by their members' common rank, kind and stages, whether they are the first forward and the last
    weight gradient of their stage there, and what stands before them; group_of (n,).
    """

    actions: tuple[Action, ...]
    ranks: Ints
    before: Ints
    sources: Ints
    from_backward: NDArray[np.bool_]
    micro_batches: Ints
    groups: tuple[Group, ...]
    group_of: Ints

    def last_weights(self) -> Iterator[tuple[int, int, int]]:
        """(action, rank, stage) of each stage's last weight gradient on a rank."""
        lasts = np.array([group.last is not None for group in self.groups], dtype=np.bool_)
        for i in np.flatnonzero(lasts[self.group_of]).tolist():
            group = self.groups[self.group_of[i]]
            assert group.last is not None
            yield i, group.rank, group.last


@lru_cache(maxsize=8)
def executable_order(schedule: Schedule, *, joint: bool = False) -> OrderedActions:
    """The actions in an executable order.

    joint: a transfer needs its sender and its receiver at once, each at the end of an action (the receiver's: the one before
    that needs it), and both wait for it. Raises InconsistentSimulation if the ranks' orders wait for each other.
    """
    done: dict[Unit, int] = {}
    meetings = _meetings(schedule) if joint else {}
    position = [0] * schedule.num_ranks
    actions: list[Action] = []
    ranks: list[int] = []
    before: list[int] = []
    last = [-1] * schedule.num_ranks
    progress = True
    while progress:
        progress = False
        for rank, order in enumerate(schedule.ranks):
            while position[rank] < len(order):
                action = order[position[rank]]
                if not all(unit in done for unit in needs_of(schedule, action)):
                    break
                sent = meetings.get((rank, position[rank] - 1), ())
                if not all(position[other] >= place for other, place in sent):
                    break
                for kind, stage, micro_batch in action.halves():
                    done[YIELD_OF[kind], stage, micro_batch] = len(actions)
                before.append(last[rank])
                last[rank] = len(actions)
                actions.append(action)
                ranks.append(rank)
                position[rank] += 1
                progress = True
    _refuse_deadlock(schedule, position)
    sources, from_backward = _sources(schedule, actions, done)
    came = _exchanges(sources, np.array(ranks, dtype=np.int64), np.array(before, dtype=np.int64))
    groups, group_of = _groups(actions, ranks, came.tolist())
    micro = [(a.micro_batch, a.micro_batch if a.b_micro_batch is None else a.b_micro_batch) for a in actions]
    return OrderedActions(
        tuple(actions), np.array(ranks, dtype=np.int64), np.array(before, dtype=np.int64), sources, from_backward,
        np.array(micro, dtype=np.int64).reshape(-1, 2).T, groups, group_of,
    )  # fmt: skip


def _exchanges(sources: Ints, ranks: Ints, before: Ints) -> NDArray[np.bool_]:
    """(n,) whether a rank sends what the action before made, or receives what this one needs."""
    half, receiver = np.nonzero((sources >= 0) & (ranks[sources] != ranks))
    sends, found = np.zeros(len(ranks) + 1, dtype=np.bool_), np.zeros(len(ranks), dtype=np.bool_)
    sends[sources[half, receiver]] = True
    found[receiver] = True
    return found | sends[before]  # the last of sends stands for no action before


def _groups(
    actions: list[Action], ranks: list[int], exchanges: list[bool]
) -> tuple[tuple[Group, ...], Ints]:  # fmt: skip
    """The groups in the order of their first members, and the group of each action."""
    last_weights = {
        (rank, stage): i
        for i, (action, rank) in enumerate(zip(actions, ranks, strict=True))
        for kind, stage, _ in action.halves()
        if kind in ("B", "W")
    }
    seen: set[tuple[int, int]] = set()
    index: dict[tuple[object, ...], int] = {}
    groups: list[Group] = []
    group_of = np.empty(len(actions), dtype=np.int64)
    for i, (action, rank) in enumerate(zip(actions, ranks, strict=True)):
        first = last = None
        for kind, stage, _ in action.halves():
            if kind == "F" and (rank, stage) not in seen:
                seen.add((rank, stage))
                first = stage
            elif kind in ("B", "W") and last_weights[rank, stage] == i:
                last = stage
        key = (rank, action.kind, action.stage, action.b_stage, first, last, exchanges[i])
        if key not in index:
            index[key] = len(groups)
            groups.append(Group(rank, action, first, last, exchanges[i]))
        group_of[i] = index[key]
    return tuple(groups), group_of


def _refuse_deadlock(schedule: Schedule, position: list[int]) -> None:
    stuck = [
        f"rank {r} at {order[p]}"
        for r, (p, order) in enumerate(zip(position, schedule.ranks, strict=True))
        if p < len(order)
    ]
    if stuck:
        raise InconsistentSimulation("the schedule deadlocks: " + ", ".join(stuck))


def _meetings(schedule: Schedule) -> dict[tuple[int, int], list[tuple[int, int]]]:
    """(rank, place of an action that sends) → (rank, place) of the actions on other ranks that need what it sends."""
    yields: dict[Unit, tuple[int, int]] = {}
    for rank, order in enumerate(schedule.ranks):
        for place, action in enumerate(order):
            for kind, stage, micro_batch in action.halves():
                yields[YIELD_OF[kind], stage, micro_batch] = (rank, place)
    found: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for rank, order in enumerate(schedule.ranks):
        for place, action in enumerate(order):
            for source in map(yields.__getitem__, needs_of(schedule, action)):
                if source[0] != rank:
                    found.setdefault(source, []).append((rank, place))
    return found


def _sources(schedule: Schedule, actions: list[Action], done: dict[Unit, int]) -> tuple[Ints, NDArray[np.bool_]]:
    sources = np.full((2, len(actions)), -1, dtype=np.int64)
    from_backward = np.zeros((2, len(actions)), dtype=np.bool_)
    last_stage = schedule.num_stages - 1
    for i, action in enumerate(actions):
        for kind, stage, micro_batch in action.halves():
            if kind == "F" and stage > 0:
                sources[0, i] = done["output", stage - 1, micro_batch]
            elif kind in ("B", "I") and stage == last_stage:
                sources[1, i] = done["output", stage, micro_batch]
            elif kind in ("B", "I"):
                sources[1, i] = done["gradient", stage + 1, micro_batch]
                from_backward[1, i] = True
    return sources, from_backward
