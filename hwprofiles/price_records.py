"""Rental prices and costs of owning, of one date."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hwprofiles.fields import Months, Name, Text, Usd
from hwprofiles.provenance import Date, Source
from hwprofiles.stack_records import Parameter

Commitment = Literal["on-demand", "spot", "1-month", "3-month", "6-month", "1-year", "2-year", "3-year"]
"""For how long a rental is promised; spot: for as long as nobody pays more."""


class _Usd(BaseModel):
    """A price with a range."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    usd_per_gpu_hour: Usd
    low: Usd
    high: Usd
    source: Source

    @model_validator(mode="after")
    def _range_holds_value(self) -> Self:
        if not self.low <= self.usd_per_gpu_hour <= self.high:
            raise ValueError(
                f"needs low <= usd_per_gpu_hour <= high, got {self.low}, {self.usd_per_gpu_hour}, {self.high}"
            )
        return self


class Offer(_Usd):
    """What a provider asks for a GPU and hour. region: as the provider names it, None where the source names none; low,
    high: where the source gives a range, else the price itself; the source is dated.
    """

    provider: Name
    region: Name | None = None
    commitment: Commitment

    @model_validator(mode="before")
    @classmethod
    def _ends_are_the_price(cls, value: Any) -> Any:
        if isinstance(value, dict) and "usd_per_gpu_hour" in value:
            return {"low": value["usd_per_gpu_hour"], "high": value["usd_per_gpu_hour"]} | value
        return value

    @model_validator(mode="after")
    def _dated(self) -> Self:
        if not self.source.date:
            raise ValueError(f"the source of an offer of {self.provider} has no date")
        return self

    def __str__(self) -> str:
        where = f" {self.region}" if self.region else ""
        return f"{self.provider}{where}, {self.commitment}: {self.usd_per_gpu_hour:.2f} USD"


class PriceEntry(_Usd):
    """A rental price: USD for one GPU for one hour, host and network included; low, high: range of offers.

    offers: single ones, to choose among; the entry's own figures are what a scenario gets that chooses none.
    """

    offers: tuple[Offer, ...] = ()


class PriceSheet(BaseModel):
    """Prices of one date. entries: GPU name → rental; ownership: key → what owning costs (USD, W, share …).

    good_for_months: how long after its date the sheet holds. sources: short name → Source, for what the offers' `source`
    abbreviates.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    currency: Literal["USD"]
    date: Annotated[Date, Field(min_length=4)]
    good_for_months: Months
    description: Text
    sources: dict[str, Source] = Field(default_factory=dict)
    entries: dict[Name, PriceEntry]
    ownership: dict[str, Parameter] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _sources_by_name(cls, value: Any) -> Any:
        """The sources in place of their short names, in a copy."""
        entries, sources = (value.get("entries"), value.get("sources", {})) if isinstance(value, dict) else (None, None)
        if not isinstance(entries, dict) or not isinstance(sources, dict):
            return value
        return value | {"entries": {gpu: _with_sources(entry, sources) for gpu, entry in entries.items()}}


def _with_sources(entry: Any, sources: Mapping[str, Any]) -> Any:
    """A sheet's entry with its offers' sources; raises ValueError where a short name is not known."""
    offers = entry.get("offers") if isinstance(entry, dict) else None
    if not isinstance(offers, list):
        return entry
    named = []
    for offer in offers:
        name = offer.get("source") if isinstance(offer, dict) else None
        if isinstance(name, str) and name not in sources:
            raise ValueError(f"the source {name!a} of an offer is not among the sheet's sources")
        named.append(offer | {"source": sources[name]} if isinstance(name, str) else offer)
    return entry | {"offers": named}
