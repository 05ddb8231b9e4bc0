"""Sheet Assumptions: what was assumed, its range and source, and what that is worth in GPU-hours and money."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from simulator.report import facts
from simulator.report.sheets import number_codes
from simulator.report.sheets.phases import NO_PRICE, Totals
from simulator.report.sheets.sheet import HEAD_POINTS, Sheet, guarded
from simulator.results.run_result import RunResult
from simulator.results.step_result import AssumptionRow

NAME: Final = "Assumptions"
HEAD: Final = 3
TITLES: Final = (
    "scenario", "assumption", "value", "low", "high", "unit",
    "effect at low\nof GPU-hours", "effect at high\nof GPU-hours", "effect at low\nGPU-hours",
    "effect at high\nGPU-hours", "effect at low\nUSD", "effect at high\nUSD", "source",
)  # fmt: skip
WIDTHS: Final = (16, 34, 11, 11, 11, 22, 12, 12, 12, 12, 12, 12, 90)
UNIT: Final = 5
EFFECTS: Final = 6
"""Column of the first effect."""


def write(sheet: Sheet, names: Sequence[str], results: Sequence[RunResult], totals: Sequence[Totals]) -> None:
    """A row an assumption and scenario, the largest effect first; effects follow GPU-hours and price."""
    sheet.title(
        "Assumptions", "What nobody published, with the range that is believed and what it moves; the largest first.", 6
    )
    sheet.widths(WIDTHS)
    for column in range(len(TITLES)):
        sheet.text(HEAD, column, TITLES[column], sheet.styles.header())
    sheet.page.set_row(HEAD, HEAD_POINTS)
    sheet.page.freeze_panes(HEAD + 1, 2)
    sheet.page.repeat_rows(HEAD)
    row = HEAD + 1
    for name, result, each in zip(names, results, totals, strict=True):
        for assumption in sorted(result.assumptions, key=lambda found: -facts.effect_size(found)):
            _row(sheet, row, name, assumption, result, each)
            row += 1
    sheet.page.autofilter(HEAD, 0, max(row - 1, HEAD), len(TITLES) - 1)


def _row(sheet: Sheet, row: int, name: str, assumption: AssumptionRow, result: RunResult, totals: Totals) -> None:
    source = len(TITLES) - 1
    sheet.text(row, 0, name, sheet.styles.name())
    sheet.line(row, {1: assumption.key, UNIT: assumption.unit or "", source: assumption.source})
    for column, value in enumerate((assumption.value, assumption.low, assumption.high), start=2):
        if isinstance(value, bool) or not isinstance(value, int | float):
            sheet.text(row, column, "" if value is None else value)
        else:
            sheet.number(row, column, value, sheet.styles.number(_code(value)))
    effect, total = assumption.effect_on_gpu_hours, result.totals.gpu_hours.value
    if effect is None or not total:
        sheet.text(row, EFFECTS, "not computed", sheet.styles.quiet())
    else:
        for place, end in enumerate((effect.low, effect.high)):
            _effect(sheet, row, EFFECTS + place, end / total, totals)


def _effect(sheet: Sheet, row: int, column: int, share: float, totals: Totals) -> None:
    """Relative, in GPU-hours, in USD: the last two by formulas."""
    styles, hours, cost = sheet.styles, totals.gpu_hours["value"], totals.cost["value"]
    cell = sheet.number(row, column, share, styles.number(number_codes.SIGNED_PERCENT))
    part = hours.term * cell.term
    sheet.put(row, column + 2, part, styles.number(number_codes.difference(part.value)))
    worth = guarded(cost, lambda term: term * cell.term, NO_PRICE)
    code = number_codes.WHOLE if isinstance(worth.value, str) else number_codes.difference(worth.value)
    sheet.put(row, column + 4, worth, styles.number(code))


def _code(value: float) -> str:
    """Of a number of any size: as it is, with an exponent where it would be long."""
    if value == 0 or 0.001 <= abs(value) < 1e6:
        return "#,##0.####" if not float(value).is_integer() else number_codes.WHOLE
    return "0.00E+00"
