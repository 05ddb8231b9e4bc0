"""`moesim schedule`: the order of actions of every pipeline rank, as a grid or as JSON; or all schedules side by side."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any, Final

from rich.console import Group
from rich.text import Text

from simulator.cli.output import print_json
from simulator.errors import InputError, Problem
from simulator.report import numbers
from simulator.report.layout import plain_table, text
from simulator.report.terminal import print_plainly
from simulator.scenario.section import MAX_STAGES
from simulator.schedule import (
    SCHEDULES,
    Kind,
    build_schedule,
    check_schedule,
    format_schedule,
    measure,
    schedule_document,
)
from simulator.schedule.check import UNIT_SLOTS

ALL: Final = "all"
"""In the place of a schedule's name: compare all of them."""
MAX_LENGTH: Final = 1_000

MAX_SHOWN: Final = 1_000_000
"""Most ranks times micro-batches that are printed."""


def print_schedule(
    name: str,
    pp: int,
    micro_batches: int,
    vpp: int | None,
    as_json: bool,
    *,
    split: bool = True,
    lengths: str | None = None,
) -> None:
    """Print a schedule, or what each of them needs. vpp: None for the fewest chunks a rank that it has. split: as of
    `build_schedule`. lengths: "F,I,W" or "F,I,W,FB" of the comparison; None: 1,1,1,3.

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
    if name == ALL:
        _print_all(list(_entries(pp, micro_batches, vpp, _slots(lengths), split=split)), lengths, as_json)
        return
    if lengths is not None:
        raise InputError(
            [Problem("", "--lengths", f"are of the comparison of all schedules; {name} has no use for them")]
        )
    schedule = build_schedule(name, pp, micro_batches, vpp, split=split)
    check_schedule(schedule)
    if as_json:
        print_json(schedule_document(schedule))
    else:
        print(format_schedule(schedule))


def _slots(lengths: str | None) -> Mapping[Kind, int]:
    """Raises InputError: not three or four whole numbers in range."""
    if lengths is None:
        return UNIT_SLOTS
    parts = lengths.split(",")
    found = [int(part) if part.isascii() and part.isdigit() and len(part) < 5 else 0 for part in parts]
    if len(found) not in (3, 4) or not all(1 <= length <= MAX_LENGTH for length in found):
        text = f"F,I,W or F,I,W,FB as whole numbers from 1 to {MAX_LENGTH:,}, such as 1,1,1 or 10,9,8,22"
        raise InputError([Problem("", "--lengths", f"is not three or four lengths ({lengths[:40]!r}); give {text}")])
    forward, inputs, weights, pair = (*found, sum(found))[:4]
    return {"F": forward, "B": inputs + weights, "I": inputs, "W": weights, "FB": pair}


def _entries(
    pp: int, micro_batches: int, vpp: int | None, slots: Mapping[Kind, int], *, split: bool
) -> Iterator[dict[str, Any]]:
    """What every schedule needs, or why it cannot run these counts. vpp, split: where a schedule leaves the choice."""
    for name in SCHEDULES.names():
        rule = SCHEDULES[name]
        chunks = vpp if rule.own_chunks is None else None
        try:
            schedule = build_schedule(name, pp, micro_batches, chunks, split=split or rule.split == "always")
        except InputError as error:
            yield {"name": name, "problem": str(error)}
            continue
        found = measure(schedule, slots)
        yield {
            "name": name,
            "bubble_frac": found.bubble_frac,
            "in_flight": found.in_flight,
            "duration": found.duration,
            "makespan": found.makespan,
        }


def _print_all(entries: list[dict[str, Any]], lengths: str | None, as_json: bool) -> None:
    if as_json:
        print_json(entries)
        return
    table = plain_table("schedule", "bubble", "in flight", "duration", "with a barrier")
    for entry in entries:
        if "problem" not in entry:
            values = (entry[key] for key in ("in_flight", "duration", "makespan"))
            table.add_row(
                text(entry["name"]), numbers.percent(entry["bubble_frac"]), *(f"{value:g}" for value in values)
            )
    unit = f"F, I, W{', F&B' if (lengths or '').count(',') == 3 else ''} of 1/P of the model last {lengths or '1,1,1'}"
    notes = [
        f"{unit}; transfers are free. In flight: micro-batches, in 1/P of the model's activations.",
        "Duration: the longest of a rank, first action to last; with a barrier: until the last rank has ended.",
        *(
            f"{entry['name']}: {entry['problem'].removeprefix(entry['name']).strip()}"
            for entry in entries
            if "problem" in entry
        ),
    ]
    print_plainly(lambda width: Group(table, Text(), *map(Text, notes)), sys.stdout)
