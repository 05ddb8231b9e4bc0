"""What an executed order shows: how long it takes, how much of that a rank waits, how many activations it holds.

Lengths are of a whole rank's layers (1/P of the model): one chunk of v a rank takes and holds a v-th. Transfers are free.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from simulator.schedule.action import Action, Kind, Schedule
from simulator.schedule.check import UNIT_SLOTS, dry_run


@dataclass(frozen=True, slots=True)
class Measured:
    """duration: from the first action of a rank to its last, of the rank where that is longest: the time from one step to the
    next where nothing but its own order holds a rank up (in a V the ranks begin one after the other, and end so).
    makespan: from the first action of all to the last, what a step takes that ends with a barrier.
    bubble_frac: the part of `duration` that this rank waits.
    in_flight: the most micro-batches whose activations a rank keeps, from the forward to the end of the full backward or
    weight gradient, in stages of 1/P of the model.
    """

    name: str
    bubble_frac: float
    in_flight: float
    duration: float
    makespan: float


def measure(schedule: Schedule, slots: Mapping[Kind, int] = UNIT_SLOTS) -> Measured:
    """slots: whole-numbered length of each kind. Raises InconsistentSimulation where the orders deadlock."""
    spans, ends, waits = [], [], []
    for starts, actions in zip(dry_run(schedule, slots), schedule.ranks, strict=True):
        end = starts[-1] + slots[actions[-1].kind]
        busy = sum(slots[action.kind] for action in actions)
        spans.append(end - starts[0])
        ends.append(end)
        waits.append(end - starts[0] - busy)
    longest = max(range(len(spans)), key=spans.__getitem__)
    share = Fraction(1, schedule.vpp)
    held = max(held_chunks(actions) for actions in schedule.ranks)
    return Measured(
        name=schedule.name,
        bubble_frac=waits[longest] / spans[longest],
        in_flight=float(held * share),
        duration=float(spans[longest] * share),
        makespan=float(max(ends) * share),
    )


def held_chunks(actions: tuple[Action, ...]) -> int:
    """The most chunks whose activations the rank holds, from the forward to the full backward or weight gradient."""
    held = most = 0
    for action in actions:
        kinds = [kind for kind, _, _ in action.halves()]
        held += kinds.count("F")
        most = max(most, held)
        held -= kinds.count("B") + kinds.count("W")
    return most
