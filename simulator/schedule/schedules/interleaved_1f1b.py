"""Interleaved 1F1B: a rank holds several chunks of the model, so that the pipeline fills and drains by chunks.

Source: Narayanan et al. 2021 (arXiv:2104.04473) figure 4 and Megatron-LM's interleaved pipeline (its megatron/core/
pipeline_parallel/schedules.py), written down here in its own words. Chunk c of P*v stands on rank c mod P. Micro-batches go
in groups of P through one chunk of a rank after the other. A passage is one micro-batch through one chunk; a rank takes its
passages in the same order forward, and from its last chunk to its first backward. Bubble over ideal compute, with equal
chunks: (P-1)/(m*v).
"""

from __future__ import annotations

from collections.abc import Iterator

from simulator.schedule.action import Action, Schedule
from simulator.schedule.family import SCHEDULES, ScheduleRule
from simulator.schedule.placement import going_round


def build_interleaved(num_ranks: int, num_micro_batches: int, num_chunks: int) -> Schedule:
    """The first rank keeps at most 2 (P-1) + (v-1) P + 1 chunks of activations, each a v-th of its layers."""
    return Schedule(
        name="interleaved_1f1b",
        num_ranks=num_ranks,
        num_stages=num_ranks * num_chunks,
        num_micro_batches=num_micro_batches,
        ranks=tuple(tuple(_order(rank, num_ranks, num_micro_batches, num_chunks)) for rank in range(num_ranks)),
        placement=going_round(num_ranks, num_chunks),
        direction=(0,) * num_micro_batches,
    )


def _order(rank: int, num_ranks: int, num_micro_batches: int, num_chunks: int) -> Iterator[Action]:
    """Forwards until the first gradient can be there, then one forward and one backward in turn, then backwards."""

    def forward(index: int) -> Action:
        return passage_forward(index, rank, num_ranks, num_chunks)

    def backward(index: int) -> Action:
        return passage_backward(index, rank, num_ranks, num_chunks)

    passages = num_micro_batches * num_chunks
    warmup = min(warm_up(rank, num_ranks, num_chunks), passages)
    yield from map(forward, range(warmup))
    for steady in range(passages - warmup):
        yield forward(warmup + steady)
        yield backward(steady)
    yield from map(backward, range(passages - warmup, passages))


def warm_up(rank: int, num_ranks: int, num_chunks: int) -> int:
    """Passages forward before the first that has a backward for its partner, where there are so many."""
    return 2 * (num_ranks - 1 - rank) + (num_chunks - 1) * num_ranks


def _passage(index: int, num_ranks: int, num_chunks: int) -> tuple[int, int]:
    """(chunk of the rank, micro-batch) of a rank's passage `index`, forward."""
    group, place = divmod(index, num_ranks * num_chunks)
    return place // num_ranks, group * num_ranks + place % num_ranks


def passage_forward(index: int, rank: int, num_ranks: int, num_chunks: int) -> Action:
    """A rank's passage `index` forward."""
    chunk, micro_batch = _passage(index, num_ranks, num_chunks)
    return Action("F", chunk * num_ranks + rank, micro_batch)


def passage_backward(index: int, rank: int, num_ranks: int, num_chunks: int) -> Action:
    """A rank's passage `index` backward."""
    chunk, micro_batch = _passage(index, num_ranks, num_chunks)
    return Action("B", (num_chunks - 1 - chunk) * num_ranks + rank, micro_batch)


def rank_problem(num_ranks: int) -> str | None:
    """Interleaving needs a pipeline."""
    return None if num_ranks >= 2 else f"needs at least 2 pipeline ranks, not {num_ranks}"


def micro_batch_problem(num_ranks: int, num_micro_batches: int) -> str | None:
    """Micro-batches go in whole groups."""
    if num_micro_batches >= num_ranks and num_micro_batches % num_ranks == 0:
        return None
    return f"needs a multiple of the pipeline ranks ({num_ranks}) as micro-batches, not {num_micro_batches}"


def _of_two_chunks(num_ranks: int, num_micro_batches: int) -> Schedule:
    return build_interleaved(num_ranks, num_micro_batches, 2)


SCHEDULES.add(
    "interleaved_1f1b",
    ScheduleRule(_of_two_chunks, rank_problem, micro_batch_problem, placement="round", build_chunks=build_interleaved),
)
