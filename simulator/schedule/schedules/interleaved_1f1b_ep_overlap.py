"""Interleaved 1F1B whose steady state runs the forward of one micro-batch beside the backward of another.

Source: Megatron-Core's combined 1F1B (core/pipeline_parallel/schedules.py, get_pp_rank_microbatches, and combined_1f1b.py):
interleaved 1F1B with one more passage in the warm-up, so that the halves of a pair never depend on one another. Passages as in
interleaved_1f1b.py; with its 2 (P-1-r) + (v-1) P forwards and one more, no pair waits for another with equal chunks.
"""

from __future__ import annotations

from simulator.schedule.action import Action, Schedule
from simulator.schedule.family import SCHEDULES, ScheduleRule
from simulator.schedule.placement import going_round
from simulator.schedule.schedules.interleaved_1f1b import (
    micro_batch_problem,
    passage_backward,
    passage_forward,
    rank_problem,
    warm_up,
)

NAME = "interleaved_1f1b_ep_overlap"


def build_chunks(num_ranks: int, num_micro_batches: int, num_chunks: int) -> Schedule:
    """The first rank keeps at most 2 (P-1) + (v-1) P + 2 chunks of activations, each a v-th of its layers."""
    passages = num_micro_batches * num_chunks

    def order(rank: int) -> tuple[Action, ...]:
        forwards = [passage_forward(index, rank, num_ranks, num_chunks) for index in range(passages)]
        backwards = [passage_backward(index, rank, num_ranks, num_chunks) for index in range(passages)]
        warmup = min(warm_up(rank, num_ranks, num_chunks) + 1, passages)
        pairs = (
            Action("FB", f.stage, f.micro_batch, b.stage, b.micro_batch)
            for f, b in zip(forwards[warmup:], backwards, strict=False)
        )
        return (*forwards[:warmup], *pairs, *backwards[passages - warmup :])

    return Schedule(
        name=NAME,
        num_ranks=num_ranks,
        num_stages=num_ranks * num_chunks,
        num_micro_batches=num_micro_batches,
        ranks=tuple(map(order, range(num_ranks))),
        placement=going_round(num_ranks, num_chunks),
        direction=(0,) * num_micro_batches,
    )


def _of_two_chunks(num_ranks: int, num_micro_batches: int) -> Schedule:
    return build_chunks(num_ranks, num_micro_batches, 2)


SCHEDULES.add(
    NAME,
    ScheduleRule(
        _of_two_chunks, rank_problem, micro_batch_problem, placement="round", overlaps_pairs=True, pairs_by_layer=True,
        build_chunks=build_chunks,
    ),
)  # fmt: skip
