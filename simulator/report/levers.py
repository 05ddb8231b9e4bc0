"""What a result rests on and what would change it, each in a sentence: for the first screen of a report."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from simulator.report import facts, numbers
from simulator.report.accuracy import Accuracy, accuracy_of, chosen, family, nearest, read_accuracy, speeds
from simulator.report.accuracy_text import gpu_of
from simulator.report.lever_words import ACTIONS, assumption_words
from simulator.report.memory_words import keys_of, tensor_words
from simulator.report.timeline_words import category_words
from simulator.results.run_result import RunResult
from simulator.results.step_result import BASIS_NAMES

NUM_BASES: Final = 3
NUM_BINDINGS: Final = 2
NUM_ASSUMPTIONS: Final = 2
NUM_TENSORS: Final = 2
ROOMY: Final = "fits"
PRICE_STEP_USD: Final = 0.1


def founded(result: RunResult) -> str:
    """What the larger part of the kernel and message time rests on."""
    shares = sorted(((getattr(result.basis, name), name) for name in BASIS_NAMES), reverse=True)
    words = [f"{numbers.percent(share)} {name}" for share, name in shares[:NUM_BASES] if share > 0]
    return f"kernel and message times: {', '.join(words)}"


def method(result: RunResult) -> tuple[str, ...]:
    """How far predictions lay off what was measured: of all runs that were compared, and of those most like this one."""
    rows = speeds(read_accuracy())
    found = accuracy_of(rows)
    if found is None:
        return ()
    model, gpu = facts.label(result.scenario.get("model")), gpu_of(result)
    same = chosen(rows, gpus=(gpu,), models=(family(model),))
    like = accuracy_of(same or nearest(rows, gpu, model))
    texts = [f"{found.n} measured runs: speed off by {numbers.rough_percent(found.median)} (median), {_inside(found)}"]
    if like is not None:
        which = "of this kind of model on this GPU" if same else "of this kind of model or on this GPU"
        texts.append(f"{like.n} {which}: {numbers.rough_percent(like.median)}, {_inside(like)}")
    return tuple(texts)


def _inside(found: Accuracy) -> str:
    return f"{numbers.rough_percent(found.coverage)} inside the interval"


def room(result: RunResult) -> str:
    """Where the plan does not surely fit: the largest tensors of the fullest rank, and the keys that act on them; "" else."""
    memory = result.memory
    tensors = [each for each in memory.worst_stage.tensors or () if keys_of(each.name)][:NUM_TENSORS]
    if memory.verdict == ROOMY or not tensors:
        return ""
    found = ", ".join(f"{tensor_words(each.name)} ({numbers.amount_of_bytes(each.bytes)})" for each in tensors)
    keys = ", ".join(dict.fromkeys(key for each in tensors for key in keys_of(each.name)))
    return f"Memory ({memory.verdict}): the most on the fullest rank is {found}; what acts on it: {keys}."


def strongest(result: RunResult) -> tuple[str, ...]:
    """What binds the step, the assumptions that move the run most, and what the price does, the strongest first."""
    return (*_bindings(result), *_assumptions(result), *_price(result))


def _bindings(result: RunResult) -> Iterator[str]:
    step_s = result.step.step_s
    for each in sorted(result.step.binding, key=lambda each: -each.seconds)[:NUM_BINDINGS]:
        gain = f"{numbers.seconds(each.seconds)} of {numbers.seconds(step_s)}"
        words = f"{_capital(category_words(each.what))} ({numbers.rough_percent(each.seconds / step_s)})"
        action = ACTIONS.get(each.what)
        yield f"{words}: a step would gain {gain} if this were free{f'; {action}' if action else ''}."


def _assumptions(result: RunResult) -> Iterator[str]:
    moving = sorted(
        (row for row in result.assumptions if facts.moves(row, result)), key=facts.effect_size, reverse=True
    )
    for row in moving[:NUM_ASSUMPTIONS]:
        effect = facts.effect_of(row, result)
        yield f"Not known for certain: {assumption_words(row.key)} ({row.key}): {effect} GPU-hours over its range."


def _capital(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}"


def _price(result: RunResult) -> Iterator[str]:
    price, hours = result.price, result.totals.gpu_hours.value
    if price is not None:
        more = numbers.usd(hours * PRICE_STEP_USD, result.totals.gpu_hours.interval.width / 2 * PRICE_STEP_USD)
        yield f"Price: {numbers.usd(PRICE_STEP_USD)} per GPU-hour more or less is {more} more or less."
