"""Sheet Breakdown: where the time of a step goes, and the GPU-hours and the money with it; ranks and memory by stage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import xlsxwriter

from hwprofiles.units import GIGA
from simulator.report import facts, numbers
from simulator.report.sheets import number_codes
from simulator.report.sheets.phases import NO_PRICE, Totals, Triple
from simulator.report.sheets.sheet import HEAD_POINTS, Sheet, guarded
from simulator.report.theme import CATEGORY, PAGES, SERIES
from simulator.report.timeline_words import category_words
from simulator.results.run_result import RunResult
from simulator.results.step_result import PART_NAMES

NAME: Final = "Breakdown"
HEAD: Final = 3
FIRST: Final = 2
COLUMNS: Final = ("time", "share", "GPU-hours", "cost")
UNITS: Final = ("s a step", "of the step", "GPU-hours", "USD")
CHART_ROWS: Final = 20
GRID: Final = {"visible": True, "line": {"color": PAGES["light"].line}}
LEAST_DECIMALS: Final = 2
"""Of the parts of a step, in seconds."""


def write(
    sheet: Sheet,
    book: xlsxwriter.Workbook,
    names: Sequence[str],
    results: Sequence[RunResult],
    totals: Sequence[Totals],
) -> None:
    """The whole sheet."""
    last = max(FIRST + len(COLUMNS) * len(results) - 1, 8)
    sheet.title(
        "Breakdown", "The step at full batch, a mean over the pipeline ranks; GPU-hours and cost split as it is.", last
    )
    sheet.widths([26, 44, *[11.5] * (last - 1)])
    sheet.page.freeze_panes(HEAD + 2, 1)
    categories = _categories(results)
    row = _table(sheet, names, results, totals, categories)
    _chart(sheet, book, names, categories, row + 1)
    row += CHART_ROWS
    for name, result in zip(names, results, strict=True):
        row = _ranks(sheet, row, name, result) + 1
        row = _memory(sheet, row, name, result) + 1


def _categories(results: Sequence[RunResult]) -> list[str]:
    """All categories, the longest of the first scenario first."""
    seconds: dict[str, float] = {}
    for result in results:
        for each in sorted(result.step.by_category, key=lambda found: -found.seconds):
            seconds.setdefault(each.category, each.seconds)
    first = {each.category: each.seconds for each in results[0].step.by_category}
    return sorted(seconds, key=lambda name: (-first.get(name, 0.0), -seconds[name]))


def _table(
    sheet: Sheet,
    names: Sequence[str],
    results: Sequence[RunResult],
    totals: Sequence[Totals],
    categories: Sequence[str],
) -> int:
    """Time, share, GPU-hours and money of each category and scenario; the row behind it."""
    styles, header = sheet.styles, sheet.styles.header()
    sheet.merged(HEAD, 0, 1, "Where the time of a step goes", styles.header("left"))
    sheet.text(HEAD + 1, 0, "", header)
    sheet.text(HEAD + 1, 1, "", header)
    for idx, name in enumerate(names):
        column = FIRST + len(COLUMNS) * idx
        sheet.merged(HEAD, column, column + len(COLUMNS) - 1, name, header)
        for place, (title, unit) in enumerate(zip(COLUMNS, UNITS, strict=True)):
            sheet.text(HEAD + 1, column + place, f"{title}\n{unit}", header)
    sheet.height(HEAD, FIRST, FIRST + len(COLUMNS) - 1, max(names, key=len))
    sheet.page.set_row(HEAD + 1, HEAD_POINTS)
    for place, category in enumerate(categories):
        row = HEAD + 2 + place
        sheet.line(row, {0: category_words(category), 1: facts.CATEGORY_LEGENDS.get(category, "")})
        for idx, (result, each) in enumerate(zip(results, totals, strict=True)):
            found = next((part for part in result.step.by_category if part.category == category), None)
            if found is not None:
                _category(sheet, row, FIRST + len(COLUMNS) * idx, found.seconds, result, each)
    return HEAD + 2 + len(categories)


def _category(sheet: Sheet, row: int, column: int, seconds: float, result: RunResult, totals: Totals) -> None:
    """A category of a scenario: its part of the totals follows the inputs."""
    styles, step_s = sheet.styles, result.step.step_s
    sheet.number(row, column, seconds, styles.number(number_codes.plain(step_s, least=LEAST_DECIMALS)))
    share = sheet.number(row, column + 1, seconds / step_s, styles.number(number_codes.PERCENT))
    hours, cost = totals.gpu_hours["value"], totals.cost["value"]
    part = hours.term * share.term
    sheet.put(
        row,
        column + 2,
        part,
        styles.number(number_codes.amount(part.value, _half(totals.gpu_hours) * share.term.value)),
    )
    money = guarded(cost, lambda term: term * share.term, NO_PRICE)
    code = number_codes.amount(
        0.0 if isinstance(money.value, str) else money.value, _half(totals.cost) * share.term.value
    )
    sheet.put(row, column + 3, money, styles.number(code))


def _half(cells: Triple) -> float:
    low, high = (cells[end].value for end in ("low", "high"))
    return 0.0 if isinstance(low, str) or isinstance(high, str) else (high - low) / 2


def _chart(sheet: Sheet, book: xlsxwriter.Workbook, names: Sequence[str], categories: Sequence[str], row: int) -> None:
    """Seconds of a step by category: bars, a colour a category for one scenario, a colour a scenario for more."""
    first, last = HEAD + 2, HEAD + 1 + len(categories)
    chart = book.add_chart({"type": "bar"})
    for idx in range(len(names)):
        column = FIRST + len(COLUMNS) * idx
        series = {
            "categories": [sheet.name, first, 0, last, 0],
            "values": [sheet.name, first, column, last, column],
            "name": [sheet.name, HEAD, column],
            "fill": {"color": SERIES[idx % len(SERIES)]},
            "gap": 40,
        }
        if len(names) == 1:
            series["points"] = [{"fill": {"color": CATEGORY.get(each, CATEGORY["other"])}} for each in categories]
        chart.add_series(series)
    title = "Seconds of a step by what they are spent on"
    chart.set_title({"name": title, "name_font": {"size": 11}})
    chart.set_y_axis({"reverse": True})
    chart.set_x_axis(
        {"name": "s a step", "major_gridlines": {"visible": True, "line": {"color": PAGES["light"].line}}, "min": 0}
    )
    chart.set_legend({"none": True} if len(names) == 1 else {"position": "bottom"})
    chart.set_size({"width": 860, "height": 360})
    sheet.page.insert_chart(row, 0, chart, {"description": title})


def _ranks(sheet: Sheet, row: int, name: str, result: RunResult) -> int:
    """Parts of a step by pipeline rank, in seconds; the row behind."""
    titles = ["pipeline rank", "", *(f"{facts.PART_WORDS[part]}\ns" for part in PART_NAMES), "step\ns"]
    row = _block_heads(sheet, row, f"{name}: parts of a step by pipeline rank", titles)
    step_s = result.step.step_s
    style = sheet.styles.number(number_codes.plain(step_s, least=LEAST_DECIMALS))
    for rank in result.step.by_rank:
        sheet.number(row, 0, rank.pp_rank, sheet.styles.of(num_format="0", align="left"))
        cells = [sheet.number(row, FIRST + place, getattr(rank, part), style) for place, part in enumerate(PART_NAMES)]
        formula = f"SUM({cells[0].address}:{cells[-1].address})"
        sheet.formula(row, FIRST + len(PART_NAMES), formula, rank.total_s, style)
        row += 1
    return row


def _memory(sheet: Sheet, row: int, name: str, result: RunResult) -> int:
    """Memory by stage at its peak, in 1e9 bytes; the row behind."""
    used = result.memory
    keys = tuple(facts.MEMORY_WORDS)
    titles = ["pipeline rank", "", *(f"{facts.MEMORY_WORDS[key]}\n1e9 bytes" for key in keys), "peak\n1e9 bytes"]
    capacity = (
        f"capacity {numbers.amount_of_bytes(used.capacity_bytes)}, usable {numbers.amount_of_bytes(used.usable_bytes)}"
    )
    row = _block_heads(sheet, row, f"{name}: memory of a GPU by pipeline rank ({capacity}): {used.verdict}", titles)
    style = sheet.styles.number("#,##0.0")
    for stage in used.by_stage:
        sheet.number(row, 0, stage.pp_rank, sheet.styles.of(num_format="0", align="left"))
        for place, key in enumerate((*keys, "peak_bytes")):
            sheet.number(row, FIRST + place, getattr(stage, key) / GIGA, style)
        row += 1
    return row


def _block_heads(sheet: Sheet, row: int, title: str, titles: Sequence[str]) -> int:
    header = sheet.styles.header()
    sheet.merged(row, 0, len(titles) - 1, title, sheet.styles.header("left"))
    for column, words in enumerate(titles):
        sheet.text(row + 1, column, words, header)
    sheet.page.set_row(row + 1, HEAD_POINTS)
    return row + 2
