"""What a result rests on and what would change it, each in a sentence: for the first screen of a report."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from simulator.report import facts, numbers
from simulator.report.accuracy import accuracy_of, read_accuracy, speeds
from simulator.report.timeline_words import category_words
from simulator.results.run_result import RunResult
from simulator.results.step_result import BASIS_NAMES

NUM_BASES: Final = 3
NUM_BINDINGS: Final = 2
NUM_ASSUMPTIONS: Final = 2
PRICE_STEP_USD: Final = 0.1


def founded(result: RunResult) -> str:
    """What the larger part of the kernel and message time rests on."""
    shares = sorted(((getattr(result.basis, name), name) for name in BASIS_NAMES), reverse=True)
    words = [f"{numbers.percent(share)} {name}" for share, name in shares[:NUM_BASES] if share > 0]
    return f"kernel and message times: {', '.join(words)}"


def method() -> str:
    """How far predictions lay off what was published, of all runs that were compared; "" where there are none."""
    found = accuracy_of(speeds(read_accuracy()))
    if found is None:
        return ""
    return f"{found.n} published runs: median error {numbers.percent(found.median)}, mean {numbers.percent(found.mape)}"


def strongest(result: RunResult) -> tuple[str, ...]:
    """What binds the step, the assumptions that move the run most, and what the price does, the strongest first."""
    return (*_bindings(result), *_assumptions(result), *_price(result))


def _bindings(result: RunResult) -> Iterator[str]:
    step_s = result.step.step_s
    for each in sorted(result.step.binding, key=lambda each: -each.seconds)[:NUM_BINDINGS]:
        share = numbers.percent(each.seconds / step_s)
        gain = f"a step would gain {numbers.seconds(each.seconds)} of {numbers.seconds(step_s)} ({share})"
        yield f"{_capital(category_words(each.what))}: {each.why}. Free of it, {gain}."


def _assumptions(result: RunResult) -> Iterator[str]:
    moving = sorted(
        (row for row in result.assumptions if facts.moves(row, result)), key=facts.effect_size, reverse=True
    )
    for row in moving[:NUM_ASSUMPTIONS]:
        yield f"Assumption {row.key}, over its range {facts.range_of(row)}: {facts.effect_of(row, result)} GPU-hours."


def _capital(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}"


def _price(result: RunResult) -> Iterator[str]:
    price, hours = result.price, result.totals.gpu_hours.value
    if price is not None:
        more = numbers.usd(hours * PRICE_STEP_USD, result.totals.gpu_hours.interval.width / 2 * PRICE_STEP_USD)
        yield f"Price: {numbers.usd(PRICE_STEP_USD)} per GPU-hour more or less is {more} more or less."
