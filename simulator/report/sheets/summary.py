"""Sheet Summary: the inputs that everybody changes, and the totals of all scenarios side by side with their differences."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from hwprofiles.units import GIGA, SECONDS_PER_DAY, SECONDS_PER_HOUR, TERA
from simulator.report import facts, headline, numbers
from simulator.report.sheets import number_codes
from simulator.report.sheets.figures import FIRST, Content, Figure, column_of, write_figure
from simulator.report.sheets.phases import END_TITLES, ENDS, NO_PRICE, Inputs, Totals
from simulator.report.sheets.phases import NAME as PHASES
from simulator.report.sheets.sheet import Cell, Sheet, guarded
from simulator.report.sheets.term import constant
from simulator.report.timeline_words import category_words
from simulator.results.run_result import RunResult

NAME: Final = "Summary"
HEAD: Final = 3
"""Row of the scenarios' names."""
PRICE_ROW: Final = HEAD + 3
GPUS_ROW: Final = HEAD + 4
RESULTS_ROW: Final = HEAD + 6
LEAST_WIDTH: Final = 7
"""Last column of notes where there is one scenario."""
NUM_BINDINGS: Final = 3
MAX_WARNINGS: Final = 12
MAX_NOTE: Final = 400
HOURS_PER_DAY: Final = constant(SECONDS_PER_DAY / SECONDS_PER_HOUR)

Cells = Mapping[str, Sequence[Mapping[str, Cell]]]
"""By a row's words: its cells by scenario and end."""


def write_inputs(sheet: Sheet, names: Sequence[str], results: Sequence[RunResult]) -> list[Inputs]:
    """Heads, and the cells of price and GPUs of every scenario."""
    last = _last(results)
    version = ", ".join(dict.fromkeys(result.version for result in results))
    sheet.title("Cost of a training run", f"moesim {version}. Change the marked cells: all figures follow.", last)
    sheet.widths([36, 17, *[12] * (last - 1)])
    sheet.page.freeze_panes(HEAD + 2, FIRST)
    _heads(sheet, names)
    _section(sheet, HEAD + 2, "Inputs", last)
    label = sheet.styles.label()
    for row, words, unit in ((PRICE_ROW, "Price", "USD/GPU-hour"), (GPUS_ROW, "GPUs", "GPUs")):
        sheet.text(row, 0, words, label)
        sheet.text(row, 1, unit, label)
    return [_inputs_of(sheet, column_of(idx), result) for idx, result in enumerate(results)]


def write_results(
    sheet: Sheet, names: Sequence[str], results: Sequence[RunResult], inputs: Sequence[Inputs], totals: Sequence[Totals]
) -> tuple[Cells, int]:
    """Everything below the inputs: (cells of the figures that follow them, the next free row)."""
    last = _last(results)
    _section(sheet, RESULTS_ROW - 1, "The run", last)
    row, written = RESULTS_ROW, {}
    for figure in _live(results, inputs, totals):
        written[figure.words] = write_figure(sheet, row, figure)
        row += 1
    for idx, each in enumerate(totals):
        sheet.formula(row, column_of(idx), _objection(each, inputs[idx]), "", sheet.styles.check())
    _section(sheet, row + 1, "As simulated: these do not follow the inputs", last)
    row += 2
    for figure in _simulated(results):
        write_figure(sheet, row, figure)
        row += 1
    row = _texts(sheet, row, results) + 1
    for words in _notes(results, names):
        sheet.note(row, last, words)
        row += 1
    return written, row


def _last(results: Sequence[RunResult]) -> int:
    return max(column_of(len(results)) - 1 - (2 if len(results) == 1 else 0), LEAST_WIDTH)


def _heads(sheet: Sheet, names: Sequence[str]) -> None:
    header = sheet.styles.header()
    sheet.merged(HEAD, 0, 1, "scenario", sheet.styles.header("left"))
    sheet.text(HEAD + 1, 0, "", header)
    sheet.text(HEAD + 1, 1, "unit", header)
    for idx, name in enumerate(names):
        column = column_of(idx)
        titles = [*END_TITLES, *(("difference", "in %") if idx else ())]
        words = f"{name}\n(differences: to the first)" if idx else name
        sheet.merged(HEAD, column, column + len(titles) - 1, words, header)
        for place, title in enumerate(titles):
            sheet.text(HEAD + 1, column + place, title, header)
    sheet.height(HEAD, FIRST, FIRST + 2, f"{max(names, key=len)}\n ")


def _section(sheet: Sheet, row: int, words: str, last: int) -> None:
    style = sheet.styles.section()
    for column in range(last + 1):
        sheet.text(row, column, words if column == 0 else "", style)


def _inputs_of(sheet: Sheet, column: int, result: RunResult) -> Inputs:
    """A price with a range has three inputs; one without has one, which the ends follow."""
    price, code = result.price, number_codes.PRICE
    words = "USD for a GPU and hour."
    value = sheet.input(PRICE_ROW, column, price.usd_per_gpu_hour if price else None, code, words)
    cells = {"value": value}
    for place, end in enumerate(ENDS[1:], start=1):
        if price is not None and price.low < price.high:
            cells[end] = sheet.input(
                PRICE_ROW, column + place, getattr(price, end), code, f"{words} {end.title()} end."
            )
        else:
            formula = f'IF(ISNUMBER({value.address}),{value.address},"")'
            cells[end] = sheet.formula(PRICE_ROW, column + place, formula, value.value, sheet.styles.number(code))
    gpus = facts.whole(facts.section(result, "cluster"), "num_gpus", 1)
    cell = sheet.input(GPUS_ROW, column, float(gpus), number_codes.WHOLE, "GPUs that are held for the whole time.")
    return Inputs(cell, cells)


def _objection(totals: Totals, inputs: Inputs) -> str:
    low, value, high = (inputs.price[end].address for end in ("low", "value", "high"))
    words = "the price is outside its range. "
    return f'IF(AND(N({low})<=N({value}),N({value})<=N({high})),"","{words}")&{totals.check}'


def _live(results: Sequence[RunResult], inputs: Sequence[Inputs], totals: Sequence[Totals]) -> Iterator[Figure]:
    """What follows the inputs."""
    amount, difference = number_codes.amount, number_codes.difference
    yield Figure("Cost", "USD", [each.cost for each in totals], amount, difference, True)
    yield Figure("GPU-hours", "GPU-hours", [each.gpu_hours for each in totals], amount, difference, True)
    days = [{end: each.wall_h[end].term / HOURS_PER_DAY for end in ENDS} for each in totals]
    yield Figure("Wall clock", "days", days, number_codes.plain, number_codes.signed, True)
    yield Figure("Tokens", "tokens", [{"value": each.tokens.term} for each in totals], amount, difference)
    trillion = [_per_trillion(each) for each in totals]
    yield Figure("Cost of a trillion tokens", "USD", trillion, amount, difference)
    if any(result.totals.gpu_hours_paid for result in results):
        paid = [_paid(result, each) for result, each in zip(results, totals, strict=True)]
        yield Figure("GPU-hours, with idle GPUs that are paid", "GPU-hours", paid, amount, difference)
        cost = [_paid_cost(result, each) for result, each in zip(results, totals, strict=True)]
        yield Figure("Cost, with idle GPUs that are paid", "USD", cost, amount, difference)


def _per_trillion(totals: Totals) -> dict[str, Content]:
    """USD of 1e12 tokens at the run's mean; words without a price."""
    tokens, trillion = totals.tokens.term, constant(TERA)
    return {end: guarded(cell, lambda cost: cost / tokens * trillion, NO_PRICE) for end, cell in totals.cost.items()}


def _paid_share(result: RunResult) -> float:
    """GPUs that are paid for over those that are used."""
    placed = result.placement
    return 1.0 if placed is None else placed.gpus_paid / placed.gpus_used


def _paid(result: RunResult, totals: Totals) -> dict[str, Content]:
    share = constant(_paid_share(result))
    return {end: cell.term * share for end, cell in totals.gpu_hours.items()}


def _paid_cost(result: RunResult, totals: Totals) -> dict[str, Content]:
    share = constant(_paid_share(result))
    return {end: guarded(cell, lambda cost: cost * share, NO_PRICE) for end, cell in totals.cost.items()}


def _simulated(results: Sequence[RunResult]) -> Iterator[Figure]:
    """Figures of the simulated step, as constants."""
    plain, signed = number_codes.plain, number_codes.signed
    steps = [
        {"value": result.step.step_s, "low": result.step.interval.low, "high": result.step.interval.high}
        for result in results
    ]
    yield Figure(
        "Step at full batch", "s", steps,
        lambda value, half: plain(value, half, 1), lambda value, half: signed(value, half, 1),
    )  # fmt: skip
    rates = [{"value": result.step.tokens_per_s_per_gpu} for result in results]
    yield Figure("Throughput of a GPU", "tokens/s", rates, plain, signed)
    mfu = [{"value": result.step.mfu.bf16_dense_causal} for result in results]
    yield Figure(
        "Model FLOP/s over the dense BF16 peak", "share, causal", mfu,
        lambda value, half: number_codes.PERCENT, lambda value, half: number_codes.SIGNED_PERCENT,
    )  # fmt: skip
    peaks = [{"value": result.memory.peak_bytes_per_gpu / GIGA} for result in results]
    yield Figure("Memory of the fullest GPU", "1e9 bytes", peaks, plain, signed)


def _texts(sheet: Sheet, row: int, results: Sequence[RunResult]) -> int:
    """Does it fit, what binds, on what it rests: a text each over a scenario's columns; the next free row."""
    rows: tuple[tuple[str, Callable[[RunResult], str]], ...] = (
        ("Does it fit in memory", lambda result: headline.memory(result).value),
        ("What binds", _binds),
        ("Machines", facts.machines_line),
        ("Measurements", facts.stack_line),
    )
    for words, of in rows:
        sheet.text(row, 0, words, sheet.styles.label())
        texts = [of(result) for result in results]
        for idx, found in enumerate(texts):
            column = column_of(idx)
            sheet.merged(row, column, column + (4 if idx else 2), found, sheet.styles.words())
        sheet.height(row, FIRST, FIRST + 2, max(texts, key=len))
        row += 1
    return row


def _binds(result: RunResult) -> str:
    found = sorted(result.step.binding, key=lambda each: -each.seconds)[:NUM_BINDINGS]
    return ", ".join(f"{category_words(each.what)} ({numbers.seconds(each.seconds)} a step)" for each in found)


def _notes(results: Sequence[RunResult], names: Sequence[str]) -> Iterator[str]:
    """Where the other inputs stand; the prices, and what is to be known of each scenario."""
    yield f"Tokens and the time of a step are inputs too: sheet {PHASES}. What the total contains and what not: sheet Sources."
    yield "Intervals are of 90 %; of the cost, few hours at the low price and many at the high one."
    for name, result in zip(names, results, strict=True):
        start = f"{name}: " if len(results) > 1 else ""
        yield f"{start}{_price_words(result)}"
        if headline.is_one_step(result):
            yield f"{start}{headline.ONE_STEP}"
        for each in result.warnings[:MAX_WARNINGS]:
            yield f"{start}warning: {facts.cut(each, MAX_NOTE)}"


def _price_words(result: RunResult) -> str:
    price = result.price
    if price is None:
        return "no price is given (prices: in the scenario): write one into the marked cell."
    if price.low == price.high:
        return f"the price is taken as exact, no range of it is known; from: {facts.cut(price.source, MAX_NOTE)}."
    return f"the price and its range are of {facts.cut(price.source, MAX_NOTE)}."
