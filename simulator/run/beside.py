"""Steps of a run simulated by two processes: the second, a copy of the first, takes some of them and hands back their results.

Building graphs and explaining steps hold Python's lock; threads bring nothing there. The results are those of one process, byte
for byte: which process simulates a step changes none of its numbers. What the second one fails at, the first does again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING

from simulator.results.joint import Joint
from simulator.results.step_result import StepResult
from simulator.run.second_process import SecondProcess, can_fork
from simulator.scenario.derived import num_micro_batches
from simulator.scenario.scenario import Scenario

if TYPE_CHECKING:
    from simulator.step.batches import StepSimulator

FIXED = 40
"""Work of a step that grows with no micro-batch, in micro-batches, about."""
EFFECTS = 2
"""Steps whose work is about that of asking what the assumptions are worth."""


@dataclass(frozen=True, eq=False)
class Wanted:
    """A step that will be asked for; schedule None: what the assumptions are worth at that batch."""

    scenario: Scenario
    global_batch_size: int
    schedule: str | None

    @property
    def work(self) -> int:
        """About how long it takes, in micro-batches; to share work out, no more."""
        steps = EFFECTS if self.schedule is None else 1
        return steps * (FIXED + num_micro_batches(self.scenario, self.global_batch_size))


class StepsBeside:
    """A `StepSimulator` whose steps a second process simulates in part, once it was told `ahead` which will be asked for."""

    def __init__(self, own: StepSimulator) -> None:
        self._own = own
        self._given: list[Wanted] = []
        self._found: dict[int, StepResult | Joint] = {}
        self._second: SecondProcess[tuple[int, StepResult | Joint]] | None = None

    def __enter__(self) -> StepsBeside:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends the second process."""
        if self._second is not None:
            self._second.end()

    def ahead(self, groups: Sequence[Sequence[Wanted]]) -> None:
        """Begins with the second process's share. groups: steps of equal scenarios, in the order in which they will be asked
        for, the first group's full batch first.
        """
        self._given = list(second_share(groups))
        if not self._given or not can_fork():
            self._given = []
            return
        self._own.get_ready(groups[0][0].scenario)
        self._second = SecondProcess(self._simulate_given)

    def __call__(self, scenario: Scenario, *, global_batch_size: int, schedule: str) -> StepResult:
        """As `StepSimulator.__call__`."""
        found = self._from_beside(scenario, global_batch_size, schedule)
        if isinstance(found, StepResult):
            return found
        return self._own(scenario, global_batch_size=global_batch_size, schedule=schedule)

    def effects(self, scenario: Scenario, global_batch_size: int) -> Joint:
        """As `StepSimulator.effects`."""
        found = self._from_beside(scenario, global_batch_size, None)
        return found if isinstance(found, Joint) else self._own.effects(scenario, global_batch_size)

    def _from_beside(self, scenario: Scenario, batch: int, schedule: str | None) -> StepResult | Joint | None:
        """What the second process found; None where it was not asked, or has ended."""
        asked = (batch, schedule)
        for idx, each in enumerate(self._given):
            if each.scenario is scenario and (each.global_batch_size, each.schedule) == asked:
                while idx not in self._found and self._receive():
                    pass
                return self._found.pop(idx, None)
        return None

    def _receive(self) -> bool:
        """Waits for one result; False where no more come."""
        assert self._second is not None
        handed = self._second.next()
        if handed is None:
            return False
        idx, result = handed[0]
        self._found[idx] = result
        return True

    def _simulate_given(self) -> Iterator[tuple[int, StepResult | Joint]]:
        """What the second process does: one step after the other, with its place."""
        for idx, each in enumerate(self._given):
            yield idx, self._simulated(each)

    def _simulated(self, each: Wanted) -> StepResult | Joint:
        if each.schedule is None:
            return self._own.effects(each.scenario, each.global_batch_size)
        return self._own(each.scenario, global_batch_size=each.global_batch_size, schedule=each.schedule)


def second_share(groups: Sequence[Sequence[Wanted]]) -> Iterable[Wanted]:
    """What the second process takes: the first one does the first group's full batch and what its assumptions are worth; of the
    group's other steps together, then of each group, whoever has done less.
    """
    first = [each for each in groups[0] if each.schedule is None or each is groups[0][0]]
    here, there = sum(each.work for each in first), 0
    for part in ([each for each in groups[0] if each not in first], *groups[1:]):
        work = sum(each.work for each in part)
        if there <= here:
            there += work
            yield from part
        else:
            here += work
