"""What the ranks of a pipeline send each other, in one order of all; found by executing the order with whole-numbered lengths.

An order that would wait for ever is refused here, before a process waits. Every rank starts its sends and receives in the one
order of all messages, that of the senders' ends in the execution; before an action it has started all those whose senders have
ended when the action starts, and it waits for nothing that ends later than that. So the other end of what a rank waits for
comes to it before it waits itself for anything later, and the first message under way has both of its ends at work. Any
transport will do: one that tells messages apart (gloo, by tag), takes them as they come, or meets at their start (NCCL).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.calibration.parallel.order import Action, Order, Pass
from hwprofiles.problem import Problem

Kind = Literal["output", "gradient"]
Unit: TypeAlias = tuple[str, int, int]
"""("output" | "gradient" | "weights", stage, micro-batch): what a pass yields."""

SLOTS: Final[Mapping[str, int]] = {"F": 1, "B": 2, "I": 1, "W": 1}
"""Lengths of the passes in the execution: any positive ones would do, these are near the truth."""
YIELD_OF: Final[Mapping[str, str]] = {"F": "output", "B": "gradient", "I": "gradient", "W": "weights"}


@dataclass(frozen=True, slots=True)
class Message:
    """An output of a stage to the one behind it, or the gradient of a stage's input to the one in front.

    tag: its place in the order of all messages. stage: the one that yields it. source, target: ranks, never the same.
    last_use: the place, in the source's order, of its first action that starts when the target has done with it, else None.
    """

    tag: int
    kind: Kind
    stage: int
    micro_batch: int
    source: int
    target: int
    last_use: int | None

    @property
    def unit(self) -> Unit:
        """What it carries."""
        return self.kind, self.stage, self.micro_batch

    def __str__(self) -> str:
        return _words(self.unit)


def needs_of(order: Order, p: Pass) -> Unit | None:
    """What a pass waits for from another stage: F the output in front, B and I the gradient behind. None: nothing, as W."""
    if p.kind == "F":
        return ("output", p.stage - 1, p.micro_batch) if p.stage > 0 else None
    if p.kind == "W" or p.stage == order.num_stages - 1:
        return None
    return ("gradient", p.stage + 1, p.micro_batch)


@dataclass(frozen=True, slots=True)
class Traffic:
    """messages: all, in their order. due[rank][place]: before the rank's action at `place` those of lower tags are started."""

    messages: tuple[Message, ...]
    due: tuple[tuple[int, ...], ...]


def traffic_of(order: Order) -> Traffic:
    """All messages, and when each rank starts its own. Raises CalibrationError where the ranks' orders deadlock."""
    times = execute(order)
    ends = {unit: end for rank, actions in enumerate(order.ranks) for unit, end in _yields(actions, times[rank])}
    found = []
    for target, actions in enumerate(order.ranks):
        for action, (_, used) in zip(actions, times[target], strict=True):
            for unit in (unit for p in action.passes if (unit := needs_of(order, p)) is not None):
                kind, stage, micro_batch = unit
                source = order.rank_of[stage, micro_batch]
                last_use = next((place for place, (start, _) in enumerate(times[source]) if start >= used), None)
                if source != target:
                    place = ends[unit], source, kind != "output"
                    found.append((place, (kind, stage, micro_batch, source, target, last_use)))
    found.sort(key=lambda pair: pair[0])
    sent = [end for (end, _, _), _ in found]
    return Traffic(
        tuple(Message(tag, *fields) for tag, (_, fields) in enumerate(found)),  # type: ignore[arg-type]
        tuple(tuple(bisect_right(sent, start) for start, _ in spans) for spans in times),
    )


def _yields(actions: tuple[Action, ...], times: tuple[tuple[int, int], ...]) -> Iterator[tuple[Unit, int]]:
    for action, (_, end) in zip(actions, times, strict=True):
        for p in action.passes:
            yield (YIELD_OF[p.kind], p.stage, p.micro_batch), end


def execute(order: Order) -> tuple[tuple[tuple[int, int], ...], ...]:
    """(start, end) of every action of every rank: an action starts when its rank is free and all that it needs is there, both
    halves of a pair at once. Raises CalibrationError naming who waits for what where the orders never reach their ends.
    """
    ready: dict[Unit, int] = {}
    waiting: dict[Unit, list[int]] = {}
    times: list[list[tuple[int, int]]] = [[] for _ in order.ranks]
    runnable = list(range(order.num_ranks))
    while runnable:
        rank = runnable.pop()
        while len(times[rank]) < len(order.ranks[rank]):
            action = order.ranks[rank][len(times[rank])]
            needs = [unit for p in action.passes if (unit := needs_of(order, p)) is not None]
            missing = next((unit for unit in needs if unit not in ready), None)
            if missing is not None:
                waiting.setdefault(missing, []).append(rank)
                break
            free = times[rank][-1][1] if times[rank] else 0
            start = max([free, *(ready[unit] for unit in needs)])
            end = start + sum(SLOTS[p.kind] for p in action.passes)
            times[rank].append((start, end))
            for p in action.passes:
                unit = (YIELD_OF[p.kind], p.stage, p.micro_batch)
                ready[unit] = end
                runnable.extend(waiting.pop(unit, ()))
    if waiting:
        raise CalibrationError([
            Problem("", f"ranks[{rank}][{len(times[rank])}]",
                    f"deadlock: rank {rank} at {order.ranks[rank][len(times[rank])]} waits for {_words(unit)} from rank "
                    f"{order.rank_of[unit[1], unit[2]]}, which waits too")
            for rank, unit in sorted((rank, unit) for unit, ranks in waiting.items() for rank in ranks)
        ])  # fmt: skip
    return tuple(map(tuple, times))


def _words(unit: Unit) -> str:
    kind, stage, micro_batch = unit
    return f"the {kind} of stage {stage}, micro-batch {micro_batch}"
