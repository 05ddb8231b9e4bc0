"""How a broken rule says what is allowed instead."""

from __future__ import annotations

FieldProblem = tuple[str, str]
"""(dotted field, message)."""


def multiples(value: int, unit: int) -> str:
    """'next valid 15360, 15488': the multiples of `unit` around a value."""
    below = value // unit * unit
    return f"next valid {', '.join(str(number) for number in (below, below + unit) if number)}"


def divisors(largest: int) -> str:
    """'allowed 1, 2, 4': the divisors of a number."""
    found = [number for number in range(1, min(largest, 100_000) + 1) if largest % number == 0]
    return f"allowed {', '.join(map(str, found[:20]))}"
