"""ZB-H1: 1F1B whose weight gradients wait, so that they fill the bubble; as many activations as 1F1B.

Source: Qi et al. 2023 (arXiv:2401.10241) section 2.3 and figure 3, written down here in its own words. Every rank starts its
forwards and backwards as in 1F1B, with the backward for the input alone, and holds the activations of up to P micro-batches:
rank r, which in 1F1B would hold P-r, puts off r weight gradients. They run while 1F1B would wait for the backwards that
drain. Bubble (P-1)(F + I - W), that is (P-1)(F + B - 2W) with B = I + W, from P micro-batches on.
"""

from __future__ import annotations

from collections.abc import Iterator

from simulator.schedule.action import Kind, Schedule
from simulator.schedule.family import SCHEDULES, ScheduleRule, at_least_one_micro_batch, at_least_one_rank
from simulator.schedule.schedules.straight import straight_schedule


def build_zb_h1(num_ranks: int, num_micro_batches: int) -> Schedule:
    """Every rank keeps the activations of at most P micro-batches, from the forward to the weight gradient."""

    def order(rank: int) -> Iterator[tuple[Kind, int]]:
        warmup = min(num_ranks - 1 - rank, num_micro_batches)
        yield from (("F", micro_batch) for micro_batch in range(warmup))
        for micro_batch in range(num_micro_batches):
            if warmup + micro_batch < num_micro_batches:
                yield ("F", warmup + micro_batch)
            yield ("I", micro_batch)
            if micro_batch >= rank:
                yield ("W", micro_batch - rank)
        yield from (("W", left) for left in range(max(0, num_micro_batches - rank), num_micro_batches))

    return straight_schedule("zb_h1", num_ranks, num_micro_batches, order)


SCHEDULES.add("zb_h1", ScheduleRule(build_zb_h1, at_least_one_rank, at_least_one_micro_batch, split="always"))
