"""The order of one rank in DualPipe and DualPipeV: two sides feed a rank, forwards of one overlap full backwards of the other.

Source of the order: DeepSeek-V3 technical report (arXiv:2412.19437) figure 5 and the eight phases of the released
algorithm (github.com/deepseek-ai/DualPipe @3da1bbe, dualpipe.py and dualpipev.py), written down here in its own words.

Terms of this file: distance is how far a rank is from where micro-batches enter, to_middle how far from where the sides meet.
"near" is the side that reaches the rank first (DualPipe: the direction that enters at its own end; DualPipeV: the way down
the V), "far" the other one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from simulator.schedule.action import Action

NEAR, FAR = 0, 1


class PairedOrder:
    """The actions of one rank; forwards and backwards of each side take their micro-batches in order.

    distance: 0 to depth - 1. depth: ranks from an entrance to where the sides meet. count: micro-batches of a side.
    units[side]: (stage, first micro-batch) of that side on the rank.
    """

    def __init__(self, distance: int, depth: int, count: int, units: tuple[tuple[int, int], tuple[int, int]]) -> None:
        self.distance = distance
        self.depth = depth
        self.count = count
        self._units = units
        self._forwards = [0, 0]
        self._backwards = [0, 0]
        self._waiting_weights: deque[tuple[int, int]] = deque()

    def _next(self, counters: list[int], side: int) -> tuple[int, int]:
        """(stage, micro-batch) of the next forward or backward of that side."""
        stage, first = self._units[side]
        index = counters[side]
        counters[side] += 1
        return stage, first + index

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
        to_middle = self.depth - 1 - self.distance
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
        to_middle = self.depth - 1 - self.distance
        for index in range(self.count - 2 * self.depth + self.distance + 1):  # 4
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
        to_middle = self.depth - 1 - self.distance
        num_backwards = 2 * (self.distance + 1)
        for index in range(num_backwards):  # 6: the second half leaves its weight parts for 7 and 8
            yield self.backward(FAR if index % 2 == 0 else NEAR, zero_bubble=2 * index >= num_backwards)
        for _ in range(to_middle):  # 7
            yield self.weights()
            yield self.backward(NEAR, zero_bubble=True)
        for _ in range(self.distance + 1):  # 8
            yield self.weights()
