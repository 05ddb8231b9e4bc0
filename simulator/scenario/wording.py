"""How a broken rule says what is allowed instead."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

FieldProblem = tuple[str, str]
"""(dotted field, message)."""

MAX_LISTED: Final = 20
"""Values that a message lists."""
MAX_DIVISOR: Final = 100_000
"""Largest divisor that is looked for."""


def next_valid(values: Iterable[int]) -> str:
    """'next valid 15360, 15488': each value once; 0 stands for none."""
    return f"next valid {', '.join(str(value) for value in dict.fromkeys(values) if value)}"


def multiples(value: int, unit: int) -> str:
    """'next valid 15360, 15488': the multiples of `unit` around a value."""
    below = value // unit * unit
    return next_valid((below, below + unit))


def allowed(values: Iterable[int]) -> str:
    """'allowed 1, 2, 4': the first of the values."""
    return f"allowed {', '.join(map(str, islice(values, MAX_LISTED)))}"


def divisors(number: int) -> Iterator[int]:
    """The divisors of a number, ascending."""
    return (size for size in range(1, min(number, MAX_DIVISOR) + 1) if number % size == 0)
