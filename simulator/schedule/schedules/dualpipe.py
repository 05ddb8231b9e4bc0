"""DualPipe: micro-batches enter at both ends, every rank holds stages r and P-1-r, forwards overlap full backwards.

Source of the order: DeepSeek-V3 technical report (arXiv:2412.19437) figure 5 and the eight phases of the released
algorithm (github.com/deepseek-ai/DualPipe @3da1bbe), written down here in its own words.

Terms of this file: distance = min(r, P-1-r) is how far a rank is from its end of the pipeline. On every rank "near" is
the direction that enters at its own end (it reaches the rank first), "far" the other one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from simulator.schedule.action import Action, Schedule
from simulator.schedule.family import SCHEDULES, ScheduleRule

NEAR, FAR = 0, 1


class _RankOrder:
    """The actions of one rank; forwards and backwards of each direction take their micro-batches in order."""

    def __init__(self, rank: int, num_ranks: int, num_micro_batches: int) -> None:
        self.half_batches = num_micro_batches // 2
        self.half_ranks = num_ranks // 2
        self.distance = min(rank, num_ranks - 1 - rank)
        self._near_direction = 0 if rank < self.half_ranks else 1
        self._stage_of_direction = (rank, num_ranks - 1 - rank)
        self._forwards = [0, 0]
        self._backwards = [0, 0]
        self._waiting_weights: deque[tuple[int, int]] = deque()

    def _next(self, counters: list[int], side: int) -> tuple[int, int]:
        """(stage, micro-batch) of the next forward or backward of that side."""
        direction = side ^ self._near_direction
        index = counters[side]
        counters[side] += 1
        return self._stage_of_direction[direction], direction * self.half_batches + index

    def forward(self, side: int) -> Action:
        return Action("F", *self._next(self._forwards, side))

    def backward(self, side: int, zero_bubble: bool = False) -> Action:
        """A full backward; with zero_bubble its weight part is left for a later `weights`."""
        unit = self._next(self._backwards, side)
        if not zero_bubble:
            return Action("B", *unit)
        self._waiting_weights.append(unit)
        return Action("I", *unit)

    def weights(self) -> Action:
        """The oldest weight part that was left."""
        return Action("W", *self._waiting_weights.popleft())

    def pair(self, forward_side: int, backward_side: int) -> Action:
        return Action("FB", *self._next(self._forwards, forward_side), *self._next(self._backwards, backward_side))

    def actions(self) -> Iterator[Action]:
        """Warm-up (1-3), the overlapped pairs (4, 5), cool-down (6-8)."""
        yield from self._warm_up()
        yield from self._pairs()
        yield from self._cool_down()

    def _warm_up(self) -> Iterator[Action]:
        to_middle = self.half_ranks - 1 - self.distance
        for _ in range(2 * to_middle):  # 1
            yield self.forward(NEAR)
        for _ in range(self.distance + 1):  # 2
            yield self.forward(NEAR)
            yield self.forward(FAR)
        for _ in range(to_middle):  # 3
            yield self.backward(FAR, zero_bubble=True)
            yield self.weights()
            yield self.forward(FAR)

    def _pairs(self) -> Iterator[Action]:
        to_middle = self.half_ranks - 1 - self.distance
        for index in range(self.half_batches - 2 * self.half_ranks + self.distance + 1):  # 4
            if index == 0 and to_middle == 0:
                # The other middle rank waits for this forward: overlapping it would make the bubble longer.
                yield self.forward(NEAR)
                yield self.backward(FAR)
            else:
                yield self.pair(NEAR, FAR)
            yield self.pair(FAR, NEAR)
        for _ in range(to_middle):  # 5
            yield self.backward(FAR)
            yield self.pair(FAR, NEAR)

    def _cool_down(self) -> Iterator[Action]:
        to_middle = self.half_ranks - 1 - self.distance
        num_backwards = 2 * (self.distance + 1)
        for index in range(num_backwards):  # 6: the second half leaves its weight parts for 7 and 8
            yield self.backward(FAR if index % 2 == 0 else NEAR, zero_bubble=2 * index >= num_backwards)
        for _ in range(to_middle):  # 7
            yield self.weights()
            yield self.backward(NEAR, zero_bubble=True)
        for _ in range(self.distance + 1):  # 8
            yield self.weights()


def build_dualpipe(num_ranks: int, num_micro_batches: int) -> Schedule:
    """Micro-batches 0..m/2-1 have direction 0 (enter at rank 0), m/2..m-1 direction 1 (enter at rank P-1)."""
    half = num_micro_batches // 2
    return Schedule(
        name="dualpipe",
        num_ranks=num_ranks,
        num_stages=num_ranks,
        num_micro_batches=num_micro_batches,
        ranks=tuple(tuple(_RankOrder(rank, num_ranks, num_micro_batches).actions()) for rank in range(num_ranks)),
        placement=tuple(tuple(sorted((rank, num_ranks - 1 - rank))) for rank in range(num_ranks)),
        direction=(0,) * half + (1,) * half,
    )


def _rank_problem(num_ranks: int) -> str | None:
    if num_ranks >= 2 and num_ranks % 2 == 0:
        return None
    return f"needs an even number of pipeline ranks (each holds stages r and P-1-r), not {num_ranks}"


def _micro_batch_problem(num_ranks: int, num_micro_batches: int) -> str | None:
    if num_micro_batches % 2 == 0 and num_micro_batches >= 2 * num_ranks:
        return None
    return (
        f"needs an even number of micro-batches, at least twice the pipeline ranks ({2 * num_ranks}), "
        f"not {num_micro_batches}"
    )


SCHEDULES.add("dualpipe", ScheduleRule(build_dualpipe, _rank_problem, _micro_batch_problem, overlaps_pairs=True))
