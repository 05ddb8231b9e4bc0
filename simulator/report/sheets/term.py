"""An expression of cells: its formula and the value that it has now, made together so that they cannot disagree."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal


@dataclass(frozen=True, slots=True)
class Term:
    """formula: without its "=", in brackets where it is a sum; value: with the inputs as they are written."""

    formula: str
    value: float

    def __add__(self, other: Term) -> Term:
        return Term(f"({self.formula}+{other.formula})", self.value + other.value)

    def __sub__(self, other: Term) -> Term:
        return Term(f"({self.formula}-{other.formula})", self.value - other.value)

    def __mul__(self, other: Term) -> Term:
        return Term(f"{self.formula}*{other.formula}", self.value * other.value)

    def __truediv__(self, other: Term) -> Term:
        return Term(f"{self.formula}/({other.formula})", self.value / other.value)

    def rounded(self, decimals: int) -> Term:
        """Rounded as a spreadsheet does, halves away from 0."""
        exact = Decimal(repr(self.value)).quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_UP)
        return Term(f"ROUND({self.formula},{decimals})", float(exact))

    def or_na_below(self, least: Term) -> Term:
        """Not available where another term's value is more: this one means nothing then."""
        return Term(f"IF({self.formula}<{least.formula},NA(),{self.formula})", self.value)


def constant(value: float) -> Term:
    """A number in a formula."""
    return Term(f"{value:.17g}" if not float(value).is_integer() else f"{value:.0f}", value)


def total(terms: Iterable[Term]) -> Term:
    """The sum of some, at least one."""
    found = tuple(terms)
    if len(found) == 1:
        return found[0]
    return Term(f"({'+'.join(term.formula for term in found)})", math.fsum(term.value for term in found))
