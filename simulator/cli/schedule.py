"""`moesim schedule`: the order of actions of every pipeline rank, as a grid or as JSON."""

from __future__ import annotations

from typing import Final

from simulator.cli.output import print_json
from simulator.errors import InputError, Problem
from simulator.scenario.section import MAX_STAGES
from simulator.schedule import build_schedule, check_schedule, format_schedule, schedule_document

MAX_SHOWN: Final = 1_000_000
"""Most ranks times micro-batches that are printed."""


def print_schedule(name: str, pp: int, micro_batches: int, vpp: int | None, as_json: bool) -> None:
    """Print a schedule. vpp: None for the fewest chunks a rank that it has.

    Raises InputError: unknown, or not for these counts (the next valid ones are named). Raises InconsistentSimulation: it
    loses or repeats a pass, or deadlocks.
    """
    if not 1 <= pp <= MAX_STAGES:
        raise InputError([Problem("", "--pp", f"is out of range ({pp}); allowed 1 to {MAX_STAGES:,}")])
    if not 1 <= micro_batches <= MAX_SHOWN // pp:
        allowed = f"allowed 1 to {MAX_SHOWN // pp:,} with --pp {pp}"
        raise InputError([Problem("", "--micro-batches", f"is out of range ({micro_batches}); {allowed}")])
    if vpp is not None and not 1 <= vpp <= MAX_STAGES // pp:
        raise InputError(
            [Problem("", "--vpp", f"is out of range ({vpp}); allowed 1 to {MAX_STAGES // pp} with --pp {pp}")]
        )
    schedule = build_schedule(name, pp, micro_batches, vpp)
    check_schedule(schedule)
    if as_json:
        print_json(schedule_document(schedule))
    else:
        print(format_schedule(schedule))
