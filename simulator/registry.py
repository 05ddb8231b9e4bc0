"""Families: named members of one kind (schedules, topologies, dispatchers …), each registered by its own file.

Imports nothing that knows a domain, so that every room can use it; a caller turns UnknownName into the error of its own level.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

from hwprofiles.names import nearest

Member = TypeVar("Member")
MAX_SHOWN = 80
"""Characters of an unknown name that a message repeats."""


class UnknownName(LookupError):
    """A family has no member of this name; the message holds the known names and the nearest ones."""


class NameTaken(ValueError):
    """Two files claim one name of a family."""


class Family(Generic[Member]):
    """Named members of one kind.

    what: the kind in words, for messages ("schedule").
    planned: public names that have no member yet (simulator/not_modelled.py); only a refusal speaks of them.
    """

    def __init__(self, what: str, planned: Iterable[str] = ()) -> None:
        self.what = what
        self._planned = frozenset(planned)
        self._members: dict[str, Member] = {}

    def add(self, name: str, member: Member) -> Member:
        """Registers and returns the member. Raises NameTaken where another file has the name already."""
        if name in self._members:
            raise NameTaken(f"{self.what} {name!r} is registered twice")
        self._members[name] = member
        return member

    def names(self) -> tuple[str, ...]:
        """The members' names, sorted."""
        return tuple(sorted(self._members))

    def problem(self, name: str) -> str | None:
        """Why there is no such member, with what to write instead; None where there is one."""
        if name in self._members:
            return None
        if name in self._planned:
            return f"{self.what} {name!r} is not modelled yet; use one of {', '.join(self.names())}"
        shown = repr(name if len(name) <= MAX_SHOWN else f"{name[:MAX_SHOWN]}…")
        return f"unknown {self.what} {shown}{nearest(name, self.names())}"

    def __getitem__(self, name: str) -> Member:
        """The member. Raises UnknownName."""
        problem = self.problem(name)
        if problem is not None:
            raise UnknownName(problem)
        return self._members[name]

    def __contains__(self, name: object) -> bool:
        return name in self._members

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __len__(self) -> int:
        return len(self._members)


def register_members(package: str, path: Iterable[str]) -> None:
    """Imports every module of a package, each of which registers its member: a new file is a new member.

    Raises NameTaken with the second of two files that claim one name.
    """
    for module in sorted(found.name for found in pkgutil.iter_modules(path)):
        try:
            importlib.import_module(f"{package}.{module}")
        except NameTaken as error:
            raise NameTaken(f"{package}.{module}: {error}: a file before it has the name") from error
