"""A batch that grows: which batch sizes a ramp runs, for how many tokens each, and which of them are worth simulating.

The batch is linear in the tokens consumed, from `start` to `full` sequences over `over_tokens` tokens, and every step
runs the valid size nearest to that line. A size is valid where it is a multiple of the sequences that one micro-batch
of every pipeline takes, and where a schedule can run that many micro-batches: the phase's own schedule from its
minimum on, the schedule for small batches below.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

from simulator.errors import InputError
from simulator.schedule.family import micro_batch_problem, next_valid_micro_batches

MAX_SIZES = 1_000
"""Most batch sizes that a ramp distinguishes: a bound on the work, far above the 89 of 3072 to 15360 by 128 or 256."""


@dataclass(frozen=True, slots=True, order=True)
class BatchSize:
    """A batch in sequences, and the schedule that runs it. Ordered by size."""

    global_batch_size: int
    schedule: str


@dataclass(frozen=True, slots=True)
class Level:
    """A batch size and the tokens that are trained at it; steps: tokens over tokens of a step, not rounded."""

    batch: BatchSize
    tokens: float
    steps: float


def valid_batch_sizes(
    start: int, full: int, per_micro_batch: int, num_ranks: int, schedule: str, schedule_below: str | None
) -> tuple[BatchSize, ...]:
    """The valid sizes from the one nearest to `start` up to `full` (a valid one), ascending; at least one.

    per_micro_batch: sequences of one micro-batch over all pipelines (dp x micro_batch_size). num_ranks: pipeline ranks.
    Of more than MAX_SIZES candidates, as many evenly spaced ones are taken, each raised to the next valid size.
    Raises InputError where the ramp needs batches below the schedule's minimum and no other schedule is named.
    """
    minimum = next_valid_micro_batches(schedule, num_ranks, 1)[-1]
    if schedule_below is None and minimum > 1 and start < minimum * per_micro_batch:
        raise InputError(
            f"batch_ramp: from {start} is below the smallest batch of schedule {schedule}, {minimum * per_micro_batch} "
            f"sequences ({minimum} micro-batches); start there or name a schedule_below such as 1f1b"
        )

    def schedule_of(num_micro_batches: int) -> str:
        return schedule if num_micro_batches >= minimum or schedule_below is None else schedule_below

    first, last = max(start // per_micro_batch, 1), full // per_micro_batch
    first = next_valid_micro_batches(schedule_of(first), num_ranks, first)[0]
    stride = max(1, (last - first) // MAX_SIZES)
    if stride > 1:
        raised = (next_valid_micro_batches(schedule_of(m), num_ranks, m)[-1] for m in range(first, last, stride))
        counts = sorted({min(m, last) for m in raised} | {last})
    else:
        counts = list(range(first, last + 1))
    sizes = [
        BatchSize(m * per_micro_batch, schedule_of(m))
        for m in counts
        if micro_batch_problem(schedule_of(m), num_ranks, m) is None
    ]
    nearest = min(sizes, key=lambda size: abs(size.global_batch_size - start))
    return tuple(size for size in sizes if size >= nearest)


def ramp_levels(sizes: Sequence[BatchSize], start: int, over_tokens: float, seq_len: int) -> tuple[Level, ...]:
    """The levels of a ramp from `start` sequences to the last of `sizes`; their tokens sum to `over_tokens`.

    The boundary between two sizes is the moment at which the line passes their middle.
    """
    full = sizes[-1].global_batch_size
    edges = [0.0]
    for lower, upper in pairwise(sizes):
        middle = (lower.global_batch_size + upper.global_batch_size) / 2
        edges.append(max((middle - start) / (full - start), 0.0) * over_tokens)
    edges.append(over_tokens)
    return tuple(
        level(size, last - first, seq_len)
        for size, (first, last) in zip(sizes, pairwise(edges), strict=True)
        if last > first
    )


def level(batch: BatchSize, tokens: float, seq_len: int) -> Level:
    """`tokens` at one batch size."""
    return Level(batch, tokens, tokens / (batch.global_batch_size * seq_len))


def cut(levels: Sequence[Level], *, tokens: float = math.inf, steps: float = math.inf) -> tuple[Level, ...]:
    """The first levels, until `tokens` are trained or `steps` are done, whichever comes first."""
    kept = []
    for each in levels:
        share = min(1.0, tokens / each.tokens, steps / each.steps)
        if share <= 0:
            break
        kept.append(Level(each.batch, each.tokens * share, each.steps * share))
        tokens, steps = tokens - each.tokens, steps - each.steps
    return tuple(kept)


def sizes_to_simulate(sizes: Sequence[BatchSize]) -> tuple[BatchSize, ...]:
    """At most five of at most two schedules' sizes: the ends of each schedule's stretch, and the middle of the longest.

    The middle one improves the interpolation and measures it.
    """
    stretches = [tuple(group) for _, group in groupby(sizes, key=lambda size: size.schedule)]
    longest = max(stretches, key=len)
    chosen = {size for stretch in stretches for size in (stretch[0], stretch[-1])}
    chosen.add(longest[len(longest) // 2])
    return tuple(sorted(chosen))


def interpolate(batch: BatchSize, simulated: Mapping[BatchSize, float]) -> float:
    """Step time in seconds of a batch, linear between the two nearest simulated sizes of its schedule around it."""
    if batch in simulated:
        return simulated[batch]
    same = sorted(size for size in simulated if size.schedule == batch.schedule)
    lower = max(size for size in same if size < batch)
    upper = min(size for size in same if size > batch)
    share = (batch.global_batch_size - lower.global_batch_size) / (upper.global_batch_size - lower.global_batch_size)
    return simulated[lower] + share * (simulated[upper] - simulated[lower])


def interpolation_error_frac(sizes: Sequence[BatchSize], simulated: Mapping[BatchSize, float]) -> float | None:
    """How far a simulated size lies off the line between its neighbours, relative: the largest found.

    An upper estimate for the stretch that holds it: with the size itself among the points, a smooth curve is followed
    about four times as closely. 0 where every size was simulated; None where no stretch has a point between its ends.
    """
    if set(sizes) <= set(simulated):
        return 0.0
    errors = []
    for size, step_s in simulated.items():
        without = {other: value for other, value in simulated.items() if other != size}
        same = [other for other in without if other.schedule == size.schedule]
        if any(other < size for other in same) and any(other > size for other in same):
            errors.append(abs(interpolate(size, without) - step_s) / step_s)
    return max(errors) if errors else None
