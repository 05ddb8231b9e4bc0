"""GPipe: all forwards, then all backwards, last micro-batch first (Huang et al. 2019, arXiv:1811.06965, fig. 2c)."""

from __future__ import annotations

from collections.abc import Iterator

from simulator.schedule.action import Kind, Schedule
from simulator.schedule.family import SCHEDULES, ScheduleRule, at_least_one_micro_batch, at_least_one_rank
from simulator.schedule.schedules.straight import straight_schedule


def build_gpipe(num_ranks: int, num_micro_batches: int) -> Schedule:
    """Every rank keeps the activations of all micro-batches until the backwards begin."""

    def order(rank: int) -> Iterator[tuple[Kind, int]]:
        yield from (("F", micro_batch) for micro_batch in range(num_micro_batches))
        yield from (("B", micro_batch) for micro_batch in reversed(range(num_micro_batches)))

    return straight_schedule("gpipe", num_ranks, num_micro_batches, order)


SCHEDULES.add("gpipe", ScheduleRule(build_gpipe, at_least_one_rank, at_least_one_micro_batch))
