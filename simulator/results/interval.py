"""A number with its range. Both ends are part of the range; the unit is that of the key that holds it."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from simulator.results.document import ResultModel


class Interval(ResultModel):
    """low ≤ high: the range that covers the truth in 90 % of the cases, as far as the inputs' ranges are known."""

    low: float
    high: float

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low {self.low} is above high {self.high}")
        return self

    @classmethod
    def exact(cls, value: float) -> Interval:
        """The range of a number of which no range is known: low = high = value."""
        return cls(low=value, high=value)

    @property
    def width(self) -> float:
        """high − low."""
        return self.high - self.low


class Estimate(ResultModel):
    """A predicted quantity and its 90 % interval; low ≤ value ≤ high."""

    value: float
    low: float
    high: float

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low <= self.value <= self.high:
            raise ValueError(f"{self.value} is not between {self.low} and {self.high}")
        return self

    @classmethod
    def exact(cls, value: float) -> Estimate:
        """An estimate of which no range is known: low = high = value."""
        return cls(value=value, low=value, high=value)

    @property
    def interval(self) -> Interval:
        """The range alone."""
        return Interval(low=self.low, high=self.high)

    def times(self, factor: float) -> Estimate:
        """The estimate of `factor` (≥ 0, known exactly) times this quantity."""
        return Estimate(value=self.value * factor, low=self.low * factor, high=self.high * factor)

    def __add__(self, other: Estimate) -> Estimate:
        """The estimate of a sum whose terms are wrong together: the ends add."""
        return Estimate(value=self.value + other.value, low=self.low + other.low, high=self.high + other.high)
