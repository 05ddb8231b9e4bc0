"""Offers of a price sheet by provider, region and commitment: those that match what is wanted, and the nearest others."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from decimal import Decimal
from statistics import median
from typing import Final

from hwprofiles.price_records import Offer

MAX_NEAREST: Final = 4
"""Offers that a message lists."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an offer must have; None: whatever it is."""

    provider: str | None = None
    region: str | None = None
    commitment: str | None = None

    def __bool__(self) -> bool:
        """Whether anything is wanted."""
        return bool(self.given)

    @property
    def given(self) -> dict[str, str]:
        """The wishes by key, in order."""
        pairs = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {name: value for name, value in pairs if value is not None}

    def agreeing(self, offer: Offer) -> int:
        """How many of the wishes an offer meets."""
        return sum(getattr(offer, name) == value for name, value in self.given.items())

    def __str__(self) -> str:
        return ", ".join(self.given.values())


@dataclass(frozen=True, slots=True)
class Choice:
    """The offers that match, in the sheet's order, at least one."""

    offers: tuple[Offer, ...]

    @property
    def usd_per_gpu_hour(self) -> Decimal:
        """Median of the offers; of an even number the mean of the two in the middle."""
        return median(_decimal(offer.usd_per_gpu_hour) for offer in self.offers)

    @property
    def low(self) -> Decimal:
        """The lowest end."""
        return min(_decimal(offer.low) for offer in self.offers)

    @property
    def high(self) -> Decimal:
        """The highest end."""
        return max(_decimal(offer.high) for offer in self.offers)

    @property
    def dates(self) -> str:
        """The date of the offers, or the first and the last of them."""
        dates = sorted({offer.source.date for offer in self.offers})
        return dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"

    def common(self, key: str) -> str | None:
        """The provider, region or commitment of all offers; None where they differ or have none."""
        found = {getattr(offer, key) for offer in self.offers}
        return found.pop() if len(found) == 1 else None


def choose(offers: Iterable[Offer], wanted: Wanted) -> Choice | None:
    """The offers that meet every wish; None where none does."""
    matching = tuple(offer for offer in offers if wanted.agreeing(offer) == len(wanted.given))
    return Choice(matching) if matching else None


def nearest_offers(offers: Iterable[Offer], wanted: Wanted) -> tuple[Offer, ...]:
    """Those that meet most wishes, in the sheet's order, at most MAX_NEAREST."""
    ranked = sorted(offers, key=lambda offer: -wanted.agreeing(offer))
    return tuple(ranked[:MAX_NEAREST])


def _decimal(number: float) -> Decimal:
    """The decimal number that a float prints as."""
    return Decimal(repr(float(number)))
