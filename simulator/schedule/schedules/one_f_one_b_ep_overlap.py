"""1F1B whose forwards run beside backwards of other micro-batches, so that compute of one hides dispatch and combine of the
other; with one rank, gradient accumulation: the forward of micro-batch i+1 beside the backward of i.

Source: Megatron-Core's combined 1F1B (core/pipeline_parallel/combined_1f1b.py, combined_1f1b_schedule_for_no_pipelining), which
has it without a pipeline, and else asks for virtual stages (interleaved_1f1b_ep_overlap).

With one stage a rank the order is this file's own. A pair cannot have both halves of one micro-batch, so that the last rank
holds one more than in 1F1B. A pair ends as a whole: rank r's waits for the gradient of rank r+1's, which waits for the output
of an earlier pair of rank r. With one more micro-batch on every rank that would be the pair before, and neighbours would take
turns, half of their time idle; two a hop let both go on. Rank r has 2 (P-1-r) + 1 micro-batches in flight, one more in a
pair. Bubble with equal stages: (P-1)(F+B) on the last rank, (P-1)(2 F&B - F - B) on the first.
"""

from __future__ import annotations

from collections.abc import Iterator

from simulator.schedule.action import Action, Schedule
from simulator.schedule.family import SCHEDULES, ScheduleRule, at_least_one_rank
from simulator.schedule.placement import straight

NAME = "1f1b_ep_overlap"


def build(num_ranks: int, num_micro_batches: int) -> Schedule:
    """Forwards until a pair's gradient can be there, then pairs, then backwards."""
    return Schedule(
        name=NAME,
        num_ranks=num_ranks,
        num_stages=num_ranks,
        num_micro_batches=num_micro_batches,
        ranks=tuple(tuple(_order(rank, num_ranks, num_micro_batches)) for rank in range(num_ranks)),
        placement=straight(num_ranks),
        direction=(0,) * num_micro_batches,
    )


def _order(rank: int, num_ranks: int, num_micro_batches: int) -> Iterator[Action]:
    warmup = min(2 * (num_ranks - 1 - rank) + 1, num_micro_batches)
    for micro_batch in range(warmup):
        yield Action("F", rank, micro_batch)
    for steady in range(num_micro_batches - warmup):
        yield Action("FB", rank, warmup + steady, rank, steady)
    for micro_batch in range(num_micro_batches - warmup, num_micro_batches):
        yield Action("B", rank, micro_batch)


def needs_two_micro_batches(num_ranks: int, num_micro_batches: int) -> str | None:
    """The micro-batch problem of schedules that would have no pair at all."""
    if num_micro_batches >= 2:
        return None
    return f"runs a micro-batch beside another and needs at least 2, not {num_micro_batches}"


SCHEDULES.add(
    NAME, ScheduleRule(build, at_least_one_rank, needs_two_micro_batches, overlaps_pairs=True, pairs_by_layer=True)
)
