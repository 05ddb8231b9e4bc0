"""Sheet Phases: tokens → steps → hours → GPU-hours → USD, phase by phase, as formulas from the cells that may be changed.

A batch ramp stays as it was simulated: its tokens, steps and seconds are constants, and the tokens beyond it run at full
batch. What a formula cannot follow (fewer tokens than the ramp has, a phase that ends inside its ramp) is said in a cell.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from hwprofiles.units import SECONDS_PER_HOUR
from simulator.report import facts, numbers
from simulator.report.sheets import number_codes
from simulator.report.sheets.sheet import Cell, Sheet, guarded
from simulator.report.sheets.term import Term, constant, total
from simulator.results.interval import Interval
from simulator.results.run_result import PhaseResult, RunResult

NAME: Final = "Phases"
ENDS: Final = ("value", "low", "high")
END_TITLES: Final = ("value", "low, 90 %", "high, 90 %")
NO_PRICE: Final = "no price"
FIRST: Final = 2
"""Column of the first phase; words and unit stand before it."""
MICRO_DECIMALS: Final = 6
"""Decimals of USD that are kept."""
SAME: Final = 1e-9
HOUR: Final = constant(SECONDS_PER_HOUR)

Triple = Mapping[str, Cell]
"""A quantity's cells by end of its interval."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """What the phases of a scenario take from the sheet Summary."""

    gpus: Cell
    price: Triple


@dataclass(frozen=True, slots=True)
class Totals:
    """Cells of a scenario's totals, and of what its formulas object to."""

    tokens: Cell
    wall_h: Triple
    gpu_hours: Triple
    cost: Triple
    check: Cell


@dataclass(frozen=True, slots=True)
class _Cells:
    """Cells of one phase that others refer to."""

    tokens: Cell
    steps: Cell
    step: Triple
    wall: Triple
    gpu_hours: Triple
    cost: Triple


@dataclass(frozen=True, slots=True)
class _Row:
    """A quantity: key, words before it, unit; of_ramp: only where a phase has a ramp."""

    key: str
    words: str
    unit: str
    of_ramp: bool = False


_ROWS: Final = (
    _Row("tokens", "Tokens", "tokens"),
    _Row("ramp_tokens", "of these in the batch ramp", "tokens", True),
    _Row("per_step", "Tokens of a step at full batch", "tokens"),
    _Row("full_steps", "Steps at full batch", "steps"),
    _Row("ramp_steps", "Steps in the ramp", "steps", True),
    _Row("steps", "Steps", "steps", True),
    _Row("step", "Time of a step at full batch", "s"),
    _Row("ramp_wall", "Wall clock of the ramp", "s", True),
    _Row("wall", "Wall clock", "h"),
    _Row("gpus", "GPUs", "GPUs"),
    _Row("gpu_hours", "GPU-hours", "GPU-hours"),
    _Row("price", "Price", "USD/GPU-hour"),
    _Row("cost", "Cost", "USD"),
)
_BOLD: Final = frozenset({"gpu_hours", "cost"})


def write(sheet: Sheet, names: Sequence[str], results: Sequence[RunResult], inputs: Sequence[Inputs]) -> list[Totals]:
    """The whole sheet, a block a scenario; the totals' cells in order."""
    last = FIRST + 3 * (max(len(result.phases) for result in results) + 1) - 1
    sheet.title("Phases", "Change the marked cells: all figures, here and on the other sheets, follow.", last)
    sheet.widths([34, 14, *[12] * (last - 1)])
    sheet.page.freeze_panes(2, FIRST)
    row, found = 3, []
    for name, result, each in zip(names, results, inputs, strict=True):
        block, row = _block(sheet, row, name, result, each)
        found.append(block)
        row += 2
    return found


def _block(sheet: Sheet, first: int, name: str, result: RunResult, inputs: Inputs) -> tuple[Totals, int]:
    """(cells of the totals, the next free row) of one scenario."""
    phases, styles = result.phases, sheet.styles
    rows = [row for row in _ROWS if not row.of_ramp or any(phase.ramp for phase in phases)]
    place = {row.key: first + 2 + idx for idx, row in enumerate(rows)}
    _heads(sheet, first, name, [*(f"phase {phase.name}" for phase in phases), "all phases"])
    for row in rows:
        sheet.text(place[row.key], 0, row.words, styles.label(row.key in _BOLD))
        sheet.text(place[row.key], 1, row.unit, styles.label(row.key in _BOLD))
    cells = [_phase(sheet, place, FIRST + 3 * idx, phase, result, inputs) for idx, phase in enumerate(phases)]
    last = FIRST + 3 * len(phases)
    tokens = math.fsum(phase.tokens for phase in phases)
    sum_tokens = sheet.put(
        place["tokens"], last, total(each.tokens.term for each in cells), styles.number(number_codes.amount(tokens))
    )
    sheet.put(
        place.get("steps", place["full_steps"]), last, total(each.steps.term for each in cells),
        styles.number(number_codes.WHOLE),
    )  # fmt: skip
    wall = _triple(sheet, place["wall"], last, lambda end: total(each.wall[end].term for each in cells))
    hours = _triple(
        sheet,
        place["gpu_hours"],
        last,
        lambda end: total(each.gpu_hours[end].term for each in cells),
        number_codes.amount,
    )
    cost = _total_cost(sheet, place, last, hours, inputs.price, cells, phases)
    check = sheet.formula(place["cost"] + 1, FIRST, _objections(cells, phases), "", styles.check())
    below = place["cost"] + 2
    for words in _notes(result):
        sheet.note(below, last + 2, words)
        below += 1
    return Totals(sum_tokens, wall, hours, cost, check), below


def _heads(sheet: Sheet, row: int, name: str, titles: Sequence[str]) -> None:
    header = sheet.styles.header()
    sheet.merged(row, 0, 1, name, sheet.styles.header("left"))
    sheet.height(row, FIRST, FIRST + 2, max((name, *titles), key=len))
    sheet.text(row + 1, 0, "", header)
    sheet.text(row + 1, 1, "unit", header)
    for idx, title in enumerate(titles):
        sheet.merged(row, FIRST + 3 * idx, FIRST + 3 * idx + 2, title, header)
        for place, end in enumerate(END_TITLES):
            sheet.text(row + 1, FIRST + 3 * idx + place, end, header)


def _phase(
    sheet: Sheet, place: Mapping[str, int], column: int, phase: PhaseResult, result: RunResult, inputs: Inputs
) -> _Cells:
    """The columns of a phase: value, and low and high where a quantity has them."""
    styles, ramp = sheet.styles, phase.ramp
    whole = styles.number(number_codes.WHOLE)
    tokens = _tokens(sheet, place["tokens"], column, phase)
    per_step = sheet.number(place["per_step"], column, _tokens_per_step(phase, result), whole)
    at_full = tokens.term
    if ramp is not None:
        code = styles.number(number_codes.amount(ramp.tokens))
        in_ramp = sheet.number(place["ramp_tokens"], column, ramp.tokens, code)
        at_full = tokens.term.or_na_below(in_ramp.term) - in_ramp.term
    full_steps = steps = sheet.put(place["full_steps"], column, at_full / per_step.term, whole)
    if ramp is not None:
        ramp_steps = sheet.number(place["ramp_steps"], column, ramp.steps, whole)
        steps = sheet.put(place["steps"], column, ramp_steps.term + full_steps.term, whole)
    elif "steps" in place:
        steps = sheet.put(place["steps"], column, full_steps.term, whole)
    step_s = _step_times(sheet, place["step"], column, phase, result)
    in_ramp_s = _ramp_times(sheet, place, column, phase, result)
    wall = _triple(
        sheet, place["wall"], column,
        lambda end: (in_ramp_s[end].term + full_steps.term * step_s[end].term if in_ramp_s
                     else full_steps.term * step_s[end].term) / HOUR,
    )  # fmt: skip
    gpus = sheet.put(place["gpus"], column, _gpus(phase, result, inputs), whole)
    hours = _triple(sheet, place["gpu_hours"], column, lambda end: wall[end].term * gpus.term, number_codes.amount)
    cost = _cost(sheet, place, column, hours, inputs.price, _own_price(phase))
    return _Cells(tokens, steps, step_s, wall, hours, cost)


def _gpus(phase: PhaseResult, result: RunResult, inputs: Inputs) -> Term:
    """GPUs of a phase: the scenario's, which can be changed, or a number of its own."""
    whole = facts.whole(facts.section(result, "cluster"), "num_gpus", 1)
    return inputs.gpus.term if phase.num_gpus in (None, whole) else constant(float(phase.num_gpus or whole))


def _own_price(phase: PhaseResult) -> float | None:
    """USD per GPU-hour of a phase that has a price of its own."""
    if "prices" not in (phase.keys or {}) or phase.cost_usd is None or not phase.gpu_hours:
        return None
    return phase.cost_usd / phase.gpu_hours


def _tokens(sheet: Sheet, row: int, column: int, phase: PhaseResult) -> Cell:
    """An input, but where the phase ends inside its ramp: more tokens would run at batches that are not known here."""
    code = number_codes.amount(phase.tokens)
    if ends_in_ramp(phase):
        return sheet.number(row, column, phase.tokens, sheet.styles.number(code))
    least = phase.ramp.tokens if phase.ramp else 0.0
    words = (
        f"Tokens of this phase; its batch ramp takes {numbers.amount(least)} of them."
        if least
        else "Tokens of this phase."
    )
    return sheet.input(row, column, phase.tokens, code, words, least)


def _step_times(sheet: Sheet, row: int, column: int, phase: PhaseResult, result: RunResult) -> Triple:
    """Three inputs; a document without the phase's interval has that of the totals. Of a phase that is more than its steps a
    step's share of all its seconds.
    """
    step_s, found = phase.step_s, phase.step_interval
    if phase.parts is not None and phase.wall_interval is not None:
        before, steps = (phase.ramp.wall_s, phase.steps - phase.ramp.steps) if phase.ramp else (0.0, phase.steps)
        step_s, low, high = (max(0.0, each - before) / steps for each in _ends(phase.wall_s, phase.wall_interval))
        found = Interval(low=low, high=high)
    if found is None:
        found = _as_the_totals(step_s, result)
    code = number_codes.plain(step_s, found.width / 2, least=1)
    values = {"value": step_s, "low": found.low, "high": found.high}
    return {
        end: sheet.input(row, column + idx, values[end], code, f"Seconds of a step at full batch, {_of_end(end)}.")
        for idx, end in enumerate(ENDS)
    }


def _ends(value: float, interval: Interval) -> tuple[float, float, float]:
    return value, interval.low, interval.high


def _as_the_totals(seconds: float, result: RunResult) -> Interval:
    """The interval of a part that is as wrong as the whole wall clock."""
    wall = result.totals.wall_s
    return Interval(low=seconds * (wall.low / wall.value), high=seconds * (wall.high / wall.value))


def _of_end(end: str) -> str:
    return "as predicted" if end == "value" else f"{end} end of the 90 % interval"


def _ramp_times(sheet: Sheet, place: Mapping[str, int], column: int, phase: PhaseResult, result: RunResult) -> Triple:
    """Constants of the ramp; empty without one. An older document has the totals' interval for it."""
    ramp = phase.ramp
    if ramp is None:
        return {}
    found = ramp.wall_interval
    if found is None:
        found = _as_the_totals(ramp.wall_s, result)
    values = {"value": ramp.wall_s, "low": found.low, "high": found.high}
    style = sheet.styles.number(number_codes.plain(ramp.wall_s, found.width / 2))
    return {end: sheet.number(place["ramp_wall"], column + idx, values[end], style) for idx, end in enumerate(ENDS)}


def _triple(
    sheet: Sheet,
    row: int,
    column: int,
    of_end: Callable[[str], Term],
    code_of: Callable[[float, float], str] = number_codes.plain,
) -> Triple:
    """Three formulas, with the digits that their interval bears."""
    terms = {end: of_end(end) for end in ENDS}
    half = (terms["high"].value - terms["low"].value) / 2
    bold = code_of is number_codes.amount
    return {
        end: sheet.put(row, column + idx, terms[end], sheet.styles.number(code_of(terms[end].value, half), bold))
        for idx, end in enumerate(ENDS)
    }


def _cost(
    sheet: Sheet, place: Mapping[str, int], column: int, hours: Triple, price: Triple, own: float | None = None
) -> Triple:
    """GPU-hours times the price, exact to the micro-USD, and the price above; words where no price is given. own: a price that
    is not the scenario's.
    """
    if own is not None:
        style = sheet.styles.number(number_codes.PRICE)
        price = {end: sheet.number(place["price"], column + idx, own, style) for idx, end in enumerate(ENDS)}
    costs = {end: guarded(price[end], partial(_usd, hours[end].term), NO_PRICE) for end in ENDS}
    amounts = {end: 0.0 if isinstance(cost.value, str) else cost.value for end, cost in costs.items()}
    half = (amounts["high"] - amounts["low"]) / 2
    found = {}
    for idx, end in enumerate(ENDS):
        if own is None:
            shown = guarded(price[end], lambda cell: cell, NO_PRICE)
            sheet.put(place["price"], column + idx, shown, sheet.styles.number(number_codes.PRICE))
        style = sheet.styles.number(number_codes.amount(amounts[end], half), True)
        found[end] = sheet.put(place["cost"], column + idx, costs[end], style)
    return found


def _total_cost(
    sheet: Sheet,
    place: Mapping[str, int],
    column: int,
    hours: Triple,
    price: Triple,
    cells: Sequence[_Cells],
    phases: Sequence[PhaseResult],
) -> Triple:
    """All GPU-hours at the price, or the sum of the phases' costs where one has a price of its own."""
    if all(_own_price(phase) is None for phase in phases):
        return _cost(sheet, place, column, hours, price)
    found = {}
    for idx, end in enumerate(ENDS):
        term = total(each.cost[end].term for each in cells)
        found[end] = sheet.put(
            place["cost"], column + idx, term, sheet.styles.number(number_codes.amount(term.value), True)
        )
    return found


def _usd(hours: Term, price: Term) -> Term:
    return (hours * price).rounded(MICRO_DECIMALS)


def _objections(cells: Sequence[_Cells], phases: Sequence[PhaseResult]) -> str:
    """A formula: what is wrong with the inputs, nothing where all is well."""
    parts = []
    for each, phase in zip(cells, phases, strict=True):
        low, value, high = (each.step[end].address for end in ("low", "value", "high"))
        if phase.ramp is not None and not ends_in_ramp(phase):
            words = "fewer tokens than the batch ramp: run moesim with these tokens. "
            parts.append(f'IF({each.tokens.address}<{phase.ramp.tokens:.17g},"{words}","")')
        parts.append(f'IF(AND({low}<={value},{value}<={high}),"","a step time is outside its interval. ")')
    return "&".join(parts)


def ends_in_ramp(phase: PhaseResult) -> bool:
    """Whether a phase has no tokens at full batch."""
    return phase.ramp is not None and phase.ramp.tokens >= phase.tokens * (1 - SAME)


def _tokens_per_step(phase: PhaseResult, result: RunResult) -> float:
    """Tokens of a step at full batch: the first phase's step's where these give the phase's steps, else what does."""
    tokens, steps = phase.tokens, phase.steps
    if phase.ramp is not None:
        tokens, steps = tokens - phase.ramp.tokens, steps - phase.ramp.steps
    stated = float(result.step.tokens_per_step)
    if ends_in_ramp(phase) or math.isclose(tokens / stated, steps, rel_tol=SAME, abs_tol=SAME * phase.steps):
        return stated
    return tokens / steps


def _notes(result: RunResult) -> Iterator[str]:
    """What the formulas take as given, and where they end."""
    yield (
        "The time of a step is that of this cluster and batch: another number of GPUs, another model or plan has another "
        "one, which moesim run predicts; changed GPUs here only hold more or fewer of them for the same time."
    )
    for phase in result.phases:
        if phase.parts is not None:
            yield f"{phase.name} is more than its steps: the time of a step is its share of all, so that hours go with tokens."
        if phase.ramp is None:
            continue
        full = facts.whole(facts.section(result, "training"), "global_batch_size", 0)
        yield f"{facts.ramp_note(phase, full)}."
        if ends_in_ramp(phase):
            yield f"{phase.name} ends inside its batch ramp: its tokens cannot be changed here; run moesim with others."
        else:
            yield (
                f"{phase.name}: the ramp's tokens, steps and seconds stay as they were simulated; other tokens change the "
                "part at full batch. Fewer tokens than the ramp has cannot be followed: #N/A, run moesim with them."
            )
    if any(phase.wall_interval is None for phase in result.phases):
        yield "This result is of a version without intervals of phases: they are taken to be as wide as that of the wall clock."
