"""The first screen: what it costs, how long it takes, does it fit, how sure is that, what would change it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from simulator.report import facts, headline, levers, numbers
from simulator.report.html.blocks import Block, Card, Cards, Section, Tone, Words, section
from simulator.results.run_result import RunResult

UNIT: Final = re.compile(r"(?<=\d) (?=(?:%|[KMBTkG]?B?|[µm]?s|d|h|min|USD)(?![^\W\d_]))|(?<=[KMBT]) (?=USD)")
"""The blank between a number and its unit."""
NO_BREAK: Final = "\u00a0"
TONES: Final[dict[str, tuple[Tone, str]]] = {
    "fits": ("good", "✓"),
    "marginal": ("fair", "≈"),
    "does not fit": ("bad", "✗"),
}


def summary(result: RunResult, key: str) -> Section | None:
    """Cards of the answers, and what to know before they are quoted."""
    cards = [_unbroken(card) for card in (_cost(result), _days(result), _fit(result), _sure(result), _change(result))]
    notes: list[Block] = []
    if headline.is_one_step(result):
        notes.append(Words(f"{headline.ONE_STEP} Give `phases` a number of tokens for those of a run.", "note"))
    if other_kind := facts.other_kind_line(result):
        notes.append(Words(f"{other_kind[0].upper()}{other_kind[1:]}.", "warning"))
    return section(key, "In short", [Cards(tuple(cards)), *notes])


def _unbroken(card: Card) -> Card:
    """The same with numbers that keep their units in their line."""
    value, ends = (UNIT.sub(NO_BREAK, text) for text in (card.value, card.range))
    return replace(card, value=value, range=ends, notes=tuple(UNIT.sub(NO_BREAK, note) for note in card.notes))


def _cost(result: RunResult) -> Card:
    hours = result.totals.gpu_hours
    spent = f"{facts.estimate(hours)} GPU-hours ({facts.estimate_range(hours)})"
    found = headline.cost(result)
    if found is None:
        return Card("GPU-hours", facts.estimate(hours), facts.estimate_range(hours), ("no price is given, so no cost",))
    return Card("Cost", found.value, found.range, (spent, found.note))


def _days(result: RunResult) -> Card:
    wall, step = result.totals.wall_s, result.step
    return Card(
        "Wall clock",
        headline.duration(wall),
        headline.duration_range(wall),
        (
            f"on {facts.whole(facts.section(result, 'cluster'), 'num_gpus', 0):,} GPUs",
            f"a step: {numbers.step_time(step.step_s, step.interval)}",
            f"{headline.throughput(result)} tokens/s/GPU, MFU {numbers.percent(step.mfu.bf16_dense_causal)}",
        ),
    )


def _fit(result: RunResult) -> Card:
    found = headline.memory(result)
    tone, sign = TONES[result.memory.verdict]
    return Card("Does it fit?", found.value, found.range, (found.note,), tone, sign)


def _sure(result: RunResult) -> Card:
    wall, step = result.totals.wall_s, result.step
    whole, low, high = (
        (wall.value, wall.low, wall.high) if wall.value else (step.step_s, step.interval.low, step.interval.high)
    )
    ends = [numbers.rough_change(end / whole - 1) for end in (low, high)]
    return Card("How sure?", f"{ends[0]} to {ends[1]}", "", tuple(_grounds(result)))


def _grounds(result: RunResult) -> Iterator[str]:
    yield "90 % interval of the time"
    yield levers.founded(result)
    yield from levers.method(result)


def _change(result: RunResult) -> Card:
    found = tuple(filter(None, (levers.room(result), *levers.strongest(result))))
    return Card("What would change it?", "", "", found, is_wide=True)
