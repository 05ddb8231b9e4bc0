"""The predictions that the page is of: each a document of `moesim validate --cases`, made here or read from a folder."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hwprofiles.leave_out import NOTHING
from simulator.cli.output import write_atomically
from simulator.errors import InputError, Problem
from validation.instrument.ablation import OFF
from validation.instrument.leave_out import LeaveOut, left_out
from validation.instrument.run import run_table
from validation.published.row import Row

NEEDED: Final = ("cases", "summary")
EVERY: Final = 50
"""Rows between two lines of progress."""


@dataclass(frozen=True)
class Part:
    """One run over the table. leave_out: what the stacks are built without; names: mechanisms that are switched off one by one;
    every: of so many rows one is predicted.
    """

    leave_out: LeaveOut | None = None
    names: tuple[str, ...] = ()
    every: int = 1


PARTS: Final[Mapping[str, Part]] = {
    "all": Part(),
    "gpu": Part(leave_out="gpu"),
    "family": Part(leave_out="family"),
    "source": Part(leave_out="source"),
    "mechanisms": Part(names=tuple(OFF), every=3),
}
"""Name of a part → the run. One row in three tells what a mechanism is worth as well as all, in a third of the time."""


def part_document(name: str, rows: Sequence[Row], folder: Path | None) -> dict[str, Any]:
    """The part's document: read from FOLDER/NAME.json where that is, else predicted, and saved there.

    Raises InputError for a file that is no such document.
    """
    path = folder / f"{name}.json" if folder else None
    if path is not None and path.is_file():
        print(f"{name}: read from {path}", file=sys.stderr)
        return _read(path, name)
    part = PARTS[name]
    given = [row for row in rows if is_touched(row, part)][:: part.every]
    told, _ = run_table(given, part.leave_out, part.names, lambda done: _tell(name, done, len(given)))
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(told, indent=1, allow_nan=False) + "\n")
    return told


def is_touched(row: Row, part: Part) -> bool:
    """Whether the part is of the row: without a row's own source only those are whose publisher measured kernels too."""
    return part.leave_out != "source" or left_out("source", "", row.text("source_url")) != NOTHING


def _tell(name: str, done: int, total: int) -> None:
    if done % EVERY == 0 or done == total:
        print(f"{name}: {done} of {total} rows", file=sys.stderr, flush=True)


def _read(path: Path, name: str) -> dict[str, Any]:
    part, told = PARTS[name], None
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _bad(path, f"cannot be read ({error})") from None
    if not isinstance(told, dict) or not all(key in told for key in NEEDED):
        raise _bad(path, "is no document of moesim validate --cases FILE.csv --json")
    if told.get("left_out") != part.leave_out or ("mechanisms" in told) != bool(part.names):
        raise _bad(path, f"is of another run than {name}")
    return dict(told)


def _bad(path: Path, text: str) -> InputError:
    return InputError([Problem("", "--saved", f"{path} {text}; take it away to have it made anew")])
