"""1F1B: after P-1-r forwards, rank r alternates a forward and a backward (Narayanan et al. 2021, arXiv:2104.04473)."""

from __future__ import annotations

from collections.abc import Iterator

from simulator.schedule.action import Kind, Schedule
from simulator.schedule.family import SCHEDULES, ScheduleRule, at_least_one_micro_batch, at_least_one_rank
from simulator.schedule.schedules.straight import straight_schedule


def build_one_f_one_b(num_ranks: int, num_micro_batches: int) -> Schedule:
    """Rank r keeps the activations of at most P-r micro-batches: warm-up, steady pairs, cool-down."""

    def order(rank: int) -> Iterator[tuple[Kind, int]]:
        warmup = min(num_ranks - 1 - rank, num_micro_batches)
        yield from (("F", micro_batch) for micro_batch in range(warmup))
        for steady in range(num_micro_batches - warmup):
            yield ("F", warmup + steady)
            yield ("B", steady)
        yield from (("B", micro_batch) for micro_batch in range(num_micro_batches - warmup, num_micro_batches))

    return straight_schedule("1f1b", num_ranks, num_micro_batches, order)


SCHEDULES.add("1f1b", ScheduleRule(build_one_f_one_b, at_least_one_rank, at_least_one_micro_batch))
