"""What GPipe and 1F1B share: one stage a rank, every micro-batch enters at rank 0."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from simulator.schedule.action import Action, Kind, Schedule
from simulator.schedule.placement import straight

RankOrder = Callable[[int], Iterable[tuple[Kind, int]]]


def straight_schedule(name: str, num_ranks: int, num_micro_batches: int, order: RankOrder) -> Schedule:
    """The schedule in which rank r holds stage r and executes order(r): (kind, micro-batch) one after the other."""
    return Schedule(
        name=name,
        num_ranks=num_ranks,
        num_stages=num_ranks,
        num_micro_batches=num_micro_batches,
        ranks=tuple(
            tuple(Action(kind, rank, micro_batch) for kind, micro_batch in order(rank)) for rank in range(num_ranks)
        ),
        placement=straight(num_ranks),
        direction=(0,) * num_micro_batches,
    )
