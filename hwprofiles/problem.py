"""One thing that is wrong with what somebody gave: the record that every room's errors are made of."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with the input.

    where: "FILE:LINE", "--set N", or "" where there is no position.
    field: dotted path of the key ("parallel.pp"), or "" for the whole document.
    message: what is wrong, with the value, what is allowed, and the remedy.
    """

    where: str
    field: str
    message: str

    def __str__(self) -> str:
        return ": ".join(part for part in (self.where, self.field, self.message) if part)
