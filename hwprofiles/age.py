"""How old prices and stacks are at a date, and whether they say that they are good for less.

Nothing here asks what day it is: an age is taken at a date that somebody states, or at the newest date of the catalogue
(newest_date), so that the clock changes no output.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from functools import cache
from typing import Final

from hwprofiles import catalog
from hwprofiles.efficiencies import load_efficiencies
from hwprofiles.price_records import PriceSheet
from hwprofiles.provenance import Source
from hwprofiles.stack_records import StackProvenance

MONTHS_PER_YEAR: Final = 12


@dataclass(frozen=True, slots=True)
class Age:
    """The age of a record. dated: as its file says it, as exact as it is known; at: the date at which it is so old.

    good_for_months: as long as its figures hold by its own word, None: it does not say.
    """

    dated: str
    at: date
    good_for_months: int | None = None

    @property
    def months(self) -> int:
        """Whole months from the first day that `dated` allows; 0 where that is later than `at`."""
        first = first_day(self.dated)
        months = MONTHS_PER_YEAR * (self.at.year - first.year) + self.at.month - first.month
        return max(0, months - (self.at.day < first.day))

    @property
    def is_outdated(self) -> bool:
        """Whether it is older than it says it is good for."""
        return self.good_for_months is not None and self.months > self.good_for_months

    def __str__(self) -> str:
        limit = "" if self.good_for_months is None else f"; good for {self.good_for_months} months"
        return f"of {self.dated}, {self.months} months old at {self.at.isoformat()}{limit}"


def first_day(dated: str) -> date:
    """The first day of 2025, 2025-05 or 2025-05-14."""
    year, month, day = (*map(int, dated.split("-")), 1, 1)[:3]
    return date(year, month, day)


def price_age(sheet: PriceSheet, at: date) -> Age:
    """How old a price sheet is at a date."""
    return Age(sheet.date, at, sheet.good_for_months)


def stack_age(provenance: StackProvenance, at: date) -> Age | None:
    """How old a stack's calibration, else its newest source, is at a date; None where nothing is dated."""
    dates = [source.date for source in provenance.sources.values() if source.date]
    if provenance.calibration is not None:
        dates = [provenance.calibration.date]
    return Age(max(dates, key=first_day), at, provenance.holds_months) if dates else None


@cache
def newest_date() -> date:
    """The newest date of the catalogue: of its datasheets, prices, stacks and efficiencies. Raises CatalogError."""
    return max(map(first_day, _dates()))


def _dates() -> Iterator[str]:
    for name in catalog.list_names("gpus"):
        yield from _of(catalog.load_gpu(name).sources.values())
    for name in catalog.list_names("nodes"):
        yield from _of(catalog.load_node(name).sources.values())
    for name in catalog.list_names("fabrics"):
        yield from _of(catalog.load_fabric(name).sources.values())
    for name in catalog.list_names("prices"):
        sheet = catalog.load_prices(name)
        yield sheet.date
        yield from _of(entry.source for entry in sheet.entries.values())
        yield from _of(sheet.sources.values())
        yield from _of(entry.source for entry in sheet.ownership.values())
    for name in catalog.measured_stacks():
        yield from _of(catalog.read_provenance(name).sources.values())
    yield from _of(load_efficiencies().sources.values())


def _of(sources: Iterable[Source]) -> Iterator[str]:
    return (source.date for source in sources if source.date)
