"""The run: its phases, the ramp of its batch, GPU-hours and money, and what the total contains."""

from __future__ import annotations

from collections.abc import Iterator
from math import fsum
from typing import Final

from simulator.report import contents, facts, headline, numbers, phase_words
from simulator.report.figures import cost as figures
from simulator.report.html.blocks import Block, Folded, Section, Table, Words, section
from simulator.report.html.charts import chart
from simulator.results.interval import Interval
from simulator.results.run_result import PhaseResult, RunResult, TakenOffer

PRICE_KEYS: Final = ("sheet", "date", "provider", "region", "commitment")
"""Of a price, where it says them."""


def phases(result: RunResult, key: str) -> Section | None:
    """Every phase with its tokens, time and cost; the totals; the ramps."""
    full = facts.whole(facts.section(result, "training"), "global_batch_size", 0)
    ramps = [phase for phase in result.phases if phase.ramp is not None]
    return section(
        key,
        "Phases and cost",
        [
            *([_bars(result, key)] if len(result.phases) > 1 else []),
            _table(result),
            *(Words(line.strip(), "note") for phase in result.phases for line in phase_words.lines(phase)),
            *_prices(result),
            *(block for place, phase in enumerate(ramps) for block in _ramp(phase, full, f"{key}-ramp{place}")),
        ],
    )


def what_it_contains(result: RunResult, key: str) -> Section | None:
    """What is in the total of this report, and what is in totals that others publish."""
    table = Table(
        "What a total contains",
        ("", "this report's total", "at full batch, as most totals are published"),
        contents.rows(result),
        frozenset({1, 2}),
    )
    return section(key, "What the total contains", [table, *(Words(text, "note") for text in contents.NOTES)])


def _bars(result: RunResult, key: str) -> Block:
    alt = figures.phases_alt(result)
    return chart(f"{key}-phases", "GPU-hours by phase", alt, lambda mode: figures.phases(result, mode))


def _table(result: RunResult) -> Table:
    has_cost = result.totals.cost_usd is not None
    headers = (
        "phase",
        "tokens",
        "steps",
        "step at full batch",
        "wall clock",
        "GPU-hours",
        *(["cost"] if has_cost else []),
    )
    rows = [_phase(phase, has_cost, result) for phase in result.phases]
    totals = result.totals
    tokens, steps = (fsum(getattr(phase, name) for phase in result.phases) for name in ("tokens", "steps"))
    ends = ["all phases", numbers.amount(tokens), numbers.whole(steps), ""]
    ends += [headline.duration(totals.wall_s), facts.estimate(totals.gpu_hours)]
    ranges = [
        "90 % interval",
        "",
        "",
        "",
        headline.duration_range(totals.wall_s),
        facts.estimate_range(totals.gpu_hours),
    ]
    if totals.cost_usd is not None:
        ends.append(numbers.usd(totals.cost_usd.value, totals.cost_usd.interval.width / 2))
        ranges.append(f"{numbers.amount_range(totals.cost_usd.low, totals.cost_usd.high)} USD")
    return Table("Phases of the run", headers, (*rows, tuple(ends), tuple(ranges)))


def _phase(phase: PhaseResult, has_cost: bool, result: RunResult) -> tuple[str, ...]:
    """Cells of a phase. Hours and cost bear the digits of the run's; so does the time where the phase has no interval."""
    total = result.totals.gpu_hours
    share = total.interval.width / 2 / total.value if total.value else 0.0
    wall = phase.wall_interval or _around(phase.wall_s, share)
    step = numbers.step_time(phase.step_s, phase.step_interval or _around(phase.step_s, share)).partition(" (")[0]
    hours = numbers.quantity(phase.gpu_hours, phase.gpu_hours * share)
    if len(result.phases) > 1 and phase.wall_interval is not None:
        found = phase_words.hours(phase)
        hours = f"{facts.estimate(found)} ({facts.estimate_range(found)})"
    cells = [
        phase.name, numbers.amount(phase.tokens), numbers.whole(phase.steps), step,
        numbers.duration_estimate(phase.wall_s, wall)[0], hours,
    ]  # fmt: skip
    if has_cost:
        cells.append("" if phase.cost_usd is None else numbers.usd(phase.cost_usd, phase.cost_usd * share))
    return tuple(cells)


def _around(value: float, share: float) -> Interval:
    return Interval(low=value * (1 - share), high=value * (1 + share))


def _prices(result: RunResult) -> Iterator[Block]:
    """Where the price stands, what its range is, which offers it is the middle of, and what idle GPUs add."""
    price, paid = result.price, result.totals.gpu_hours_paid
    if price is not None:
        ends = "" if price.low == price.high else f" ({numbers.usd(price.low)} to {numbers.usd(price.high)})"
        told = (
            ("per GPU-hour", f"{numbers.usd(price.usd_per_gpu_hour)}{ends}"),
            *((name, value) for name in PRICE_KEYS if (value := getattr(price, name)) is not None),
            ("source", price.source),
        )
        yield Table("The price that the cost rests on", ("", ""), told, frozenset({1}))
        if price.offers:
            headers = ("provider", "region", "commitment", "per GPU-hour", "date", "source")
            rows = tuple(map(_offer, price.offers))
            offers = Table("Offers, whose middle the price is", headers, rows, frozenset({1, 2, 4, 5}))
            yield Folded(f"{len(rows)} offers of the price sheet", (offers,))
    if paid is not None:
        yield Words(f"With the idle GPUs that are paid for: {facts.estimate(paid)} GPU-hours.")


def _offer(offer: TakenOffer) -> tuple[str, ...]:
    ends = "" if offer.low == offer.high else f" ({numbers.usd(offer.low)} to {numbers.usd(offer.high)})"
    price = f"{numbers.usd(offer.usd_per_gpu_hour)}{ends}"
    return offer.provider, offer.region or "–", offer.commitment, price, offer.date, offer.source


def _ramp(phase: PhaseResult, full: int, key: str) -> Iterator[Block]:
    note = facts.ramp_note(phase, full)
    yield Words(f"The batch grows: {note}.", "note")
    if phase.ramp is not None and len(phase.ramp.points) > 1:
        yield chart(
            key, f"Step time while the batch grows, phase {phase.name}", figures.ramp_alt(phase),
            lambda mode: figures.ramp(phase, mode),
        )  # fmt: skip
