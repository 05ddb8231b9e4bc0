"""A schedule without weight gradients apart."""

from __future__ import annotations

from dataclasses import replace

from simulator.schedule.action import Action, Schedule


def joined(schedule: Schedule) -> Schedule:
    """The schedule with a full backward in the place of each input gradient, and no weight gradient apart.

    Nothing waits for a weight gradient but the end of the step, so that a sound schedule stays one.
    """
    ranks = tuple(
        tuple(
            Action("B", action.stage, action.micro_batch) if action.kind == "I" else action
            for action in actions
            if action.kind != "W"
        )
        for actions in schedule.ranks
    )
    return replace(schedule, ranks=ranks)
