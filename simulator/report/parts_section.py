"""What the hours of phases are made of that are not steps alone: a line each, what decides it, and the figures behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Final

from rich.console import RenderableType

from simulator.report import numbers
from simulator.report.layout import grid, shortened, text
from simulator.report.lever_words import range_words
from simulator.report.run_sections import MAX_NAME_WIDTH
from simulator.results.interval import Interval
from simulator.results.phase_parts import STEP, PhasePart
from simulator.results.run_result import RunResult

Facts = Mapping[str, float]


def parts(result: RunResult, width: int) -> Iterable[RenderableType]:
    """Nothing where every phase is its steps alone."""
    for phase in result.phases:
        if phase.parts:
            name = shortened(phase.name, MAX_NAME_WIDTH)
            labels, rows = (
                [f"{name} ({phase.kind})", "GPU-hours", "90 % interval"],
                [_row(part) for part in phase.parts],
            )
            yield grid(width, labels, rows, [""] * len(rows))
            yield from (text(line, "dim") for part in phase.parts for line in part_lines(part))


def part_lines(part: PhasePart) -> Iterator[str]:
    """A line of a phase in words: how it is counted, with its figures, and what decides it."""
    told = [part.note, *_told(part)]
    yield f"{part.name}: {' · '.join(each for each in told if each)}"
    if part.decides is not None and part.decided is not None and part.decided.width:
        yield f"  decided most by {decides_words(part.decides)}: {_ends(part.decided)} GPU-hours"


def decides_words(key: str) -> str:
    """What decides a line, with its key."""
    return "the step's own interval" if key == STEP else range_words(key)


def _row(part: PhasePart) -> list[str]:
    found = part.gpu_hours
    return [part.name, numbers.amount(found.value), _ends(found.interval) if found.interval.width else ""]


def _ends(interval: Interval) -> str:
    """Both ends, each with its own digits: they lie a factor of a hundred apart."""
    return f"{numbers.amount(interval.low)} to {numbers.amount(interval.high)}"


def _told(part: PhasePart) -> Iterator[str]:
    for key, words in WORDS.items():
        if key in part.facts:
            yield words(part.facts)


def _engine(of: Facts) -> str:
    weights, cache = (numbers.amount_of_bytes(of[key]) for key in ("weight_bytes_per_gpu", "cache_bytes_per_token"))
    return f"{of['gpus_per_engine']:,.0f} GPUs an engine, {weights} of weights each, {cache} of cache a token"


def _batch(of: Facts) -> str:
    held, most = (numbers.plain(of[key]) for key in ("sequences_per_gpu", "most_sequences_per_gpu"))
    return f"{held} answers at a time on a GPU, memory for {most}"


def _rollout(of: Facts) -> str:
    step, whole = numbers.seconds(of["decode_step_s"]), numbers.seconds(of["rollout_s"])
    rate = numbers.plain(of["tokens_per_s_per_gpu"])
    number = f"{of['rollouts']:,.0f} rollouts of {of['answers']:,.0f} answers"
    return f"a decode step {step}, {number} {whole} each: {rate} tokens/s/GPU on the mean"


def _instances(of: Facts) -> str:
    number, tokens = numbers.amount(of["instances"]), numbers.whole(of["sample_tokens"])
    return f"{number} instances of {tokens} tokens in {numbers.amount(of['sequences'])} sequences, {of['steps']:,.0f} steps"


def _trained(of: Facts) -> str:
    trained, computed = (numbers.amount(of[key]) for key in ("trained_tokens", "computed_tokens"))
    return f"{trained} tokens trained, {computed} computed"


def _updates(of: Facts) -> str:
    steps = f"{of['steps_of_update']:,.0f} step{'s' if of['steps_of_update'] > 1 else ''}"
    return f"{of['updates']:,.0f} updates of {numbers.whole(of['sequences'])} sequences, {steps} each"


WORDS: Final[Mapping[str, Callable[[Facts], str]]] = MappingProxyType(
    {
        "gpus_per_engine": _engine,
        "sequences_per_gpu": _batch,
        "rollout_s": _rollout,
        "instances": _instances,
        "trained_tokens": _trained,
        "updates": _updates,
        "filled_frac": lambda of: f"batches {numbers.percent(of['filled_frac'])} full",
        "padding_frac": lambda of: f"{numbers.percent(of['padding_frac'])} padding",
        "cut_frac": lambda of: f"{numbers.percent(of['cut_frac'])} of all tokens cut off",
        "tokens": lambda of: f"{numbers.amount(of['tokens'])} tokens",
    }
)
"""Fact of a line → it in words, with the facts beside it."""
