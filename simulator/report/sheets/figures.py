"""Rows of figures of all scenarios side by side: values with the ends of their intervals, and differences to the first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from simulator.report.sheets import number_codes
from simulator.report.sheets.phases import ENDS
from simulator.report.sheets.sheet import Cell, Guarded, Sheet
from simulator.report.sheets.term import Term

FIRST: Final = 2
"""Column of the first scenario's value."""

Code = Callable[[float, float], str]
"""(value, half width of its interval) → number format."""
Content = Term | Guarded | Cell | float
"""An expression, one that may hold words, another cell as it is, a constant."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A row: words, unit, and by scenario what stands at the ends of its interval (only "value" where it has none).

    code: its number format; signed: that of a difference.
    """

    words: str
    unit: str
    values: Sequence[Mapping[str, Content]]
    code: Code
    signed: Code
    bold: bool = False


def column_of(idx: int) -> int:
    """Column of the value of a scenario; low and high follow, and behind them, but for the first, two of differences."""
    return FIRST if idx == 0 else FIRST + 3 + 5 * (idx - 1)


def write_figure(sheet: Sheet, row: int, figure: Figure) -> list[Mapping[str, Cell]]:
    """Writes the row; its cells by scenario and end."""
    label = sheet.styles.label(figure.bold)
    sheet.text(row, 0, figure.words, label)
    sheet.text(row, 1, figure.unit, label)
    cells: list[Mapping[str, Cell]] = []
    for idx, values in enumerate(figure.values):
        half = _half(values)
        found = {
            end: _cell(sheet, row, column_of(idx) + ENDS.index(end), each, figure, half) for end, each in values.items()
        }
        cells.append(found)
        if idx:
            _difference(sheet, row, column_of(idx) + 3, cells[0]["value"], found["value"], figure, half)
    return cells


def _cell(sheet: Sheet, row: int, column: int, content: Content, figure: Figure, half: float) -> Cell:
    number = _number(content)
    style = sheet.styles.number(figure.code(0.0 if number is None else number, half), figure.bold)
    if isinstance(content, Term | Guarded):
        return sheet.put(row, column, content, style)
    if isinstance(content, Cell):
        return sheet.formula(row, column, str(content), content.value, style)
    return sheet.number(row, column, content, style)


def _difference(sheet: Sheet, row: int, column: int, first: Cell, other: Cell, figure: Figure, half: float) -> None:
    """other − first, and relative to the first; empty where one of them is words."""
    both = f"AND(ISNUMBER({first.address}),ISNUMBER({other.address}))"
    known = not isinstance(first.value, str) and not isinstance(other.value, str)
    change = other.term.value - first.term.value if known else 0.0
    relative: float | str = change / first.term.value if known and first.term.value else ""
    styles = sheet.styles
    formula = f'IF({both},{other.address}-{first.address},"")'
    sheet.formula(row, column, formula, change if known else "", styles.number(figure.signed(change, half)))
    formula = f'IF({both},IF({first.address}=0,"",{other.address}/{first.address}-1),"")'
    sheet.formula(row, column + 1, formula, relative, styles.number(number_codes.SIGNED_PERCENT))


def _number(content: Content) -> float | None:
    """The number of a content; None where it is words."""
    value = content.value if isinstance(content, Term | Guarded | Cell) else content
    return None if isinstance(value, str) else value


def _half(values: Mapping[str, Content]) -> float:
    low, high = (_number(values[end]) if end in values else None for end in ("low", "high"))
    return 0.0 if low is None or high is None else (high - low) / 2


def known(*contents: Content) -> bool:
    """Whether all of them are numbers."""
    return all(_number(content) is not None for content in contents)
