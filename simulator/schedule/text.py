"""A schedule in print: the grid over time, an action parsed back, and the JSON document for other programs."""

from __future__ import annotations

import re
from typing import Any

from simulator.errors import InputError
from simulator.schedule.action import Action, Schedule
from simulator.schedule.check import UNIT_SLOTS, dry_run

_SINGLE = re.compile(r"(\d+)([FBIW])(\d+)", re.ASCII)
_PAIR = re.compile(r"(\d+)F(\d+)&(\d+)B(\d+)", re.ASCII)


def parse_action(text: str) -> Action:
    """The action that prints so: "3F17", "3I17", "3F17&12B4". Raises InputError."""
    single = _SINGLE.fullmatch(text)
    if single is not None:
        return Action(single[2], int(single[1]), int(single[3]))  # type: ignore[arg-type]
    pair = _PAIR.fullmatch(text)
    if pair is not None:
        return Action("FB", *map(int, pair.groups()))
    raise InputError(
        f"{text!r} is not an action; expected 3F17, 3B17, 3I17 or 3W17 (stage, kind, micro-batch), or 3F17&12B4"
    )


def parse_actions(line: str) -> tuple[Action, ...]:
    """The actions of one row of the grid (without its "rank N |"), or of any list with blanks. Raises InputError."""
    tokens = (token.rstrip("-") for token in line.split() if token.strip("."))
    return tuple(map(parse_action, tokens))


def format_schedule(schedule: Schedule) -> str:
    """The grid: a row a rank, time to the right in slots (F, I, W: 1, B: 2, F&B: 3), "." a slot of waiting.

    Raises InconsistentSimulation where the orders deadlock.
    """
    starts = dry_run(schedule)
    width = max((_slot_width(action) for actions in schedule.ranks for action in actions), default=1)
    label_width = len(f"rank {schedule.num_ranks - 1}")
    lines = [f"{schedule.name}: {_counts(schedule)}; stage F|B|I|W micro-batch; slots F 1, B 2, I 1, W 1, F&B 3"]
    for rank, actions in enumerate(schedule.ranks):
        cells: list[str] = []
        now = 0
        for action, start in zip(actions, starts[rank], strict=True):
            cells.extend(["." + " " * (width - 1)] * (start - now))
            length = UNIT_SLOTS[action.kind]
            fill = "-" if length > 1 else " "
            cells.append(str(action).ljust(length * width - 1, fill) + " ")
            now = start + length
        lines.append(f"{f'rank {rank}'.ljust(label_width)} | {''.join(cells).rstrip()}")
    return "\n".join(lines)


def _counts(schedule: Schedule) -> str:
    chunks = f" of {schedule.vpp} stages each" if schedule.vpp > 1 else ""
    return f"{schedule.num_ranks} ranks{chunks}, {schedule.num_micro_batches} micro-batches"


def _slot_width(action: Action) -> int:
    """Characters that a slot needs so that the action and a blank fit."""
    return -(-(len(str(action)) + 1) // UNIT_SLOTS[action.kind])


def schedule_document(schedule: Schedule) -> dict[str, Any]:
    """The schedule as plain data for JSON; b_stage and b_micro_batch are null where the kind is not FB."""
    return {
        "name": schedule.name,
        "pp": schedule.num_ranks,
        "vpp": schedule.vpp,
        "micro_batches": schedule.num_micro_batches,
        "ranks": [
            [
                {
                    "kind": action.kind,
                    "stage": action.stage,
                    "micro_batch": action.micro_batch,
                    "b_stage": action.b_stage,
                    "b_micro_batch": action.b_micro_batch,
                }
                for action in actions
            ]
            for actions in schedule.ranks
        ],
    }
