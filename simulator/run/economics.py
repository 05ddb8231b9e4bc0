"""GPU-hours and what they cost. Money is decimal: exact in micro-USD; floats stay outside.

A GPU-hour counts every GPU of the job for every hour of the wall clock, idle ones included.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Decimal
from typing import TYPE_CHECKING, Any, Self

from hwprofiles.catalog import load_prices
from hwprofiles.offers import Choice, choose
from hwprofiles.price_records import Offer, PriceSheet
from hwprofiles.units import MICRO, SECONDS_PER_HOUR
from simulator.errors import InputError, Problem
from simulator.results.interval import Estimate
from simulator.results.run_result import GpuHourPrice, TakenOffer
from simulator.scenario.hardware import node_of

if TYPE_CHECKING:
    from simulator.scenario.scenario import Scenario

MICRO_USD = Decimal(str(MICRO))
"""The smallest amount of money that is kept, in USD."""


@dataclass(frozen=True, slots=True)
class Price:
    """A rental price in USD for one GPU and hour, low ≤ value ≤ high, and where it stands (with its date, for a
    sheet). origin: keys of GpuHourPrice that say which sheet and offers it is of.
    """

    value: Decimal
    low: Decimal
    high: Decimal
    source: str
    origin: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.value <= self.high:
            raise ValueError(f"a price of {self.value} is not between {self.low} and {self.high}")

    @classmethod
    def of(
        cls,
        usd_per_gpu_hour: float,
        source: str,
        low: float | None = None,
        high: float | None = None,
        **origin: Any,
    ) -> Self:
        """A price as it was written; an end that is not given is the price itself."""
        lower = _decimal(usd_per_gpu_hour if low is None else low)
        upper = _decimal(usd_per_gpu_hour if high is None else high)
        return cls(_decimal(usd_per_gpu_hour), lower, upper, source, origin)

    def to_result(self) -> GpuHourPrice:
        """The same as floats, for the result document."""
        value, low, high = float(self.value), float(self.low), float(self.high)
        return GpuHourPrice(usd_per_gpu_hour=value, low=low, high=high, source=self.source, **self.origin)


@dataclass(frozen=True, slots=True)
class CostEstimate:
    """An amount of money, exact to the micro-USD, with its range: low ≤ value ≤ high."""

    value: Decimal
    low: Decimal
    high: Decimal

    def to_estimate(self) -> Estimate:
        """The same as floats, for the result document."""
        return Estimate(value=float(self.value), low=float(self.low), high=float(self.high))


def gpu_hours(num_gpus: int, wall_s: float) -> float:
    """GPU-hours of `num_gpus` GPUs that are held for `wall_s` seconds."""
    return num_gpus * wall_s / SECONDS_PER_HOUR


def cost(hours: Estimate, price: Price) -> CostEstimate:
    """Cost of GPU-hours at a price. The ends of the range multiply: few hours at the low price, many at the high one.

    That is wider than a joint 90 % interval where hours and price are independent, and never narrower.
    """
    pairs = ((hours.value, price.value), (hours.low, price.low), (hours.high, price.high))
    value, low, high = ((_decimal(amount) * each).quantize(MICRO_USD, ROUND_HALF_EVEN) for amount, each in pairs)
    return CostEstimate(value, low, high)


def cost_usd(hours: float, price: Price | None) -> float | None:
    """Cost in USD of GPU-hours that are known exactly; None without a price."""
    return None if price is None else cost(Estimate.exact(hours), price).to_estimate().value


def price_of(scenario: Scenario) -> Price | None:
    """The price of a GPU-hour in the scenario: its own, or that of the node's GPU in a sheet, or the sheet's offers that it
    wants; None where it names none.

    Raises InputError: the sheet has no price for this GPU, or no such offer. Raises hwprofiles.catalog.CatalogError: no
    such sheet or node.
    """
    prices = scenario.prices
    if prices is None:
        return None
    if prices.usd_per_gpu_hour is not None:
        return Price.of(prices.usd_per_gpu_hour, "scenario")
    if prices.sheet is None:
        return None
    sheet = load_prices(prices.sheet)
    gpu = node_of(scenario).gpu
    if gpu not in sheet.entries:
        known = ", ".join(sorted(sheet.entries))
        message = f"{sheet.name} has no price for the GPU {gpu}; it has {known}; or set prices.usd_per_gpu_hour"
        raise InputError([Problem(scenario.where("prices.sheet"), "prices.sheet", message)])
    entry = sheet.entries[gpu]
    if prices.wanted:
        choice = choose(entry.offers, prices.wanted)
        if choice is None:
            message = f"{sheet.name} has no offer of {gpu} with {prices.wanted}"
            raise InputError([Problem(scenario.where("prices.sheet"), "prices.sheet", message)])
        return _offered(sheet, choice)
    source, origin = f"{sheet.name}, {sheet.date}: {entry.source}", {"sheet": sheet.name, "date": sheet.date}
    return Price.of(entry.usd_per_gpu_hour, source, entry.low, entry.high, **origin)


def _offered(sheet: PriceSheet, choice: Choice) -> Price:
    """The price of some offers of a sheet."""
    offers = choice.offers
    listed = "; ".join(map(str, offers))
    found = f"{listed}, {offers[0].source}" if len(offers) == 1 else f"median of {len(offers)} offers: {listed}"
    origin: dict[str, Any] = {key: choice.common(key) for key in ("provider", "region", "commitment")}
    origin |= {"sheet": sheet.name, "date": choice.dates, "offers": tuple(map(_taken, offers))}
    return Price(choice.usd_per_gpu_hour, choice.low, choice.high, f"{sheet.name}, {choice.dates}: {found}", origin)


def _taken(offer: Offer) -> TakenOffer:
    """An offer as the result document has it."""
    return TakenOffer(**offer.model_dump(exclude={"source"}), date=offer.source.date, source=offer.source.text)


def _decimal(number: float) -> Decimal:
    """The decimal number that a float prints as: 2.1 is 2.1, not 2.100000000000000088."""
    return Decimal(repr(float(number)))
