"""What a planted fault is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Fault:
    """One wrong line that gives a plausible number.

    file: from the root of the repository. old: text that stands exactly once in it; new: what stands there instead.
    wrong: what is wrong, in a line.
    """

    file: str
    old: str
    new: str
    wrong: str


@dataclass(frozen=True, slots=True)
class Room:
    """A folder's faults, and the tests that meet them first: files or folders, in this order."""

    name: str
    tests: tuple[str, ...]
    faults: tuple[Fault, ...]


@dataclass(frozen=True, slots=True)
class Mutant:
    """A fault with its place in the list."""

    room: Room
    number: int
    fault: Fault

    @property
    def name(self) -> str:
        """Room and number, from 1."""
        return f"{self.room.name}-{self.number}"


def mutants_of(rooms: tuple[Room, ...]) -> list[Mutant]:
    """All mutants in the order of the lists."""
    return [Mutant(room, number, fault) for room in rooms for number, fault in enumerate(room.faults, start=1)]


def stale(mutant: Mutant, root: Path) -> str | None:
    """Why the mutant no longer fits the sources under `root`, else None."""
    fault = mutant.fault
    path = root / fault.file
    if not path.is_file():
        return f"{mutant.name}: there is no file {fault.file}"
    times = path.read_text().count(fault.old)
    if times != 1:
        return f"{mutant.name}: {fault.file} holds {fault.old!r} {times} times, not once"
    if fault.old == fault.new:
        return f"{mutant.name}: {fault.file}: the fault changes nothing"
    return None
