"""ZB-V: two half-size stages a rank in a V, weight gradients apart: no bubble where F = I = W and transfers are free.

Source: Qi et al. 2024 (arXiv:2405.15362, "Pipeline Parallelism with Controllable Memory"), the V-shape with 1F1B's memory and
zero bubble, and Qi et al. 2023 (arXiv:2401.10241) section 6; the order is that of torch.distributed.pipelining's
ScheduleZBVZeroBubble, written down here in its own words. A micro-batch goes down through stages 0 to P-1 and up through P to
2P-1; the turn is on the last rank, so that the loss is where the micro-batch began.

Rank r ends r half-size forwards later than rank 0, as it began: no bubble between its first and its last action, but a step
that ends with a barrier waits for the last rank. Below 2P-1 micro-batches the same order is taken with those that are missing
left out; the pipeline is then not full, and there is a bubble.
"""

from __future__ import annotations

from collections.abc import Iterator

from simulator.schedule.action import Action, Kind, Schedule
from simulator.schedule.family import SCHEDULES, ScheduleRule, at_least_one_micro_batch, at_least_one_rank
from simulator.schedule.placement import folded

DOWN, UP = 0, 1


class _Rank:
    """One rank's order; each pass of each side takes its micro-batches in order."""

    def __init__(self, rank: int, num_ranks: int, num_micro_batches: int) -> None:
        self.rank, self.to_turn = rank, num_ranks - rank
        self.count = max(num_micro_batches, 2 * num_ranks - 1)
        self._stages = (rank, 2 * num_ranks - 1 - rank)
        self._done = {(kind, side): 0 for kind in ("F", "I", "W") for side in (DOWN, UP)}

    def _run(self, side: int, *kinds: Kind) -> Iterator[Action]:
        for kind in kinds:
            yield Action(kind, self._stages[side], self._done[kind, side])
            self._done[kind, side] += 1

    def actions(self) -> Iterator[Action]:
        """Fill the V, go through all sides in turn, drain it; the weight gradients that are left at the end."""
        for _ in range(2 * self.to_turn - 1):
            yield from self._run(DOWN, "F")
        for _ in range(self.rank):
            yield from self._run(UP, "F")
            yield from self._run(DOWN, "F")
        for _ in range(self.to_turn):
            yield from self._run(UP, "F", "I", "W")
        while self._done["F", UP] < self.count:
            if self._done["F", DOWN] < self.count:
                yield from self._run(DOWN, "F")
            yield from self._run(DOWN, "I", "W")
            yield from self._run(UP, "F", "I", "W")
        for _ in range(self.rank):
            yield from self._run(DOWN, "I")
            yield from self._run(UP, "I")
        for _ in range(self.to_turn):
            yield from self._run(DOWN, "I", "W")
        for side in (UP, DOWN):
            while self._done["W", side] < self.count:
                yield from self._run(side, "W")


def build_zb_v(num_ranks: int, num_micro_batches: int) -> Schedule:
    """A rank keeps at most 2P half-size stages of activations, from the forward to the weight gradient: 1F1B's P whole ones."""

    def order(rank: int) -> tuple[Action, ...]:
        actions = _Rank(rank, num_ranks, num_micro_batches).actions()
        return tuple(action for action in actions if action.micro_batch < num_micro_batches)

    return Schedule(
        name="zb_v",
        num_ranks=num_ranks,
        num_stages=2 * num_ranks,
        num_micro_batches=num_micro_batches,
        ranks=tuple(map(order, range(num_ranks))),
        placement=folded(num_ranks),
        direction=(0,) * num_micro_batches,
    )


SCHEDULES.add(
    "zb_v", ScheduleRule(build_zb_v, at_least_one_rank, at_least_one_micro_batch, placement="folded", split="always")
)
