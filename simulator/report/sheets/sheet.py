"""A worksheet that takes text as text, finite numbers as numbers, and formulas only from us, with the value they have."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import xlsxwriter
from xlsxwriter.format import Format
from xlsxwriter.utility import xl_rowcol_to_cell
from xlsxwriter.worksheet import Worksheet

from simulator.report.sheets.styles import Styles
from simulator.report.sheets.term import Term

MAX_TEXT: Final = 32_000
"""Characters of a cell, below the 32,767 that the file format allows."""
LINE_POINTS: Final = 15
"""Height of a line of text."""
HEAD_POINTS: Final = 36
"""Height of column heads of two lines."""
MAX_LINES: Final = 25
"""Lines that a row shows, within the 409 points that it may be high."""
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffe\uffff\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Cell:
    """Where a figure stands, and what it is now."""

    sheet: str
    row: int
    column: int
    value: float | str

    def __str__(self) -> str:
        """As a formula on any sheet names it."""
        return f"{self.sheet}!{xl_rowcol_to_cell(self.row, self.column)}"

    @property
    def address(self) -> str:
        """As a formula on the same sheet names it."""
        return str(xl_rowcol_to_cell(self.row, self.column))

    @property
    def term(self) -> Term:
        """The cell in an expression. Raises TypeError where it holds text."""
        if isinstance(self.value, str):
            raise TypeError(f"{self} holds {self.value!r}")
        return Term(str(self), self.value)


@dataclass(frozen=True, slots=True)
class Guarded:
    """A formula that holds words while the cell that it rests on has no number."""

    formula: str
    value: float | str


def guarded(cell: Cell, make: Callable[[Term], Term], words: str) -> Guarded:
    """What `make` makes of a cell's number; words where it has none."""
    is_known = not isinstance(cell.value, str)
    term = make(cell.term if is_known else Term(str(cell), 0.0))
    return Guarded(f'IF(ISNUMBER({cell}),{term.formula},"{words}")', term.value if is_known else words)


def cell_text(text: object) -> str:
    """A text as a cell can hold it: line ends are one character, other control characters a sign, not too long."""
    plain = _CONTROL.sub("\ufffd", str(text).replace("\r\n", "\n").replace("\r", "\n"))
    return plain if len(plain) <= MAX_TEXT else f"{plain[: MAX_TEXT - 1]}…"


class Sheet:
    """One worksheet under construction; rows and columns count from 0."""

    def __init__(self, book: xlsxwriter.Workbook, styles: Styles, name: str, landscape: bool = True) -> None:
        self.name, self.styles = name, styles
        self._widths: tuple[float, ...] = ()
        self.page: Worksheet = book.add_worksheet(name)
        self._print_setup(landscape)

    def text(self, row: int, column: int, text: object, style: Format | None = None) -> None:
        """A text, whatever it begins with."""
        self.page.write_string(row, column, cell_text(text), style or self.styles.words())

    def number(self, row: int, column: int, value: float, style: Format) -> Cell:
        """A number. Raises ValueError where it is not finite."""
        self.page.write_number(row, column, finite(value), style)
        return Cell(self.name, row, column, value)

    def formula(self, row: int, column: int, formula: str, value: float | str, style: Format) -> Cell:
        """A formula of ours, and the value that it has with the inputs as they are."""
        kept = value if isinstance(value, str) else finite(value)
        self.page.write_formula(row, column, f"={formula}", style, kept)
        return Cell(self.name, row, column, kept)

    def put(self, row: int, column: int, term: Term | Guarded, style: Format) -> Cell:
        """An expression of other cells."""
        return self.formula(row, column, term.formula.replace(f"{self.name}!", ""), term.value, style)

    def input(self, row: int, column: int, value: float | None, code: str, words: str, least: float = 0.0) -> Cell:
        """A number that a reader may change, at least `least`; empty for None. words: what it is, shown beside it."""
        style = self.styles.input(code)
        if value is None:
            self.page.write_blank(row, column, None, style)
        else:
            self.page.write_number(row, column, finite(value), style)
        self.page.data_validation(row, column, row, column, _at_least(least, words))
        return Cell(self.name, row, column, "" if value is None else value)

    def widths(self, widths: Sequence[float]) -> None:
        """Widths of the columns from the first on, in characters."""
        self._widths = tuple(widths)
        for column, width in enumerate(widths):
            self.page.set_column(column, column, width)

    def note(self, row: int, last: int, words: str) -> None:
        """A sentence over the columns up to `last`, as high as it needs."""
        self.merged(row, 0, last, words, self.styles.quiet())
        self.height(row, 0, last, words)

    def height(self, row: int, first: int, last: int, words: str) -> None:
        """Makes a row as high as a text over some columns needs: merged cells do not grow by themselves."""
        self.page.set_row(row, LINE_POINTS * min(self._lines(first, last, words), MAX_LINES))

    def line(self, row: int, texts: Mapping[int, str]) -> None:
        """Texts of a row by column, and its height: not every program makes rows high enough by itself."""
        for column, words in texts.items():
            self.text(row, column, words)
        lines = max(self._lines(column, column, words) for column, words in texts.items())
        self.page.set_row(row, LINE_POINTS * min(lines, MAX_LINES))

    def _lines(self, first: int, last: int, words: str) -> int:
        """Lines that a text takes over some columns, a tenth too many rather than one too few."""
        letters = 0.9 * sum(self._widths[first : last + 1])
        return sum(1 + int(len(line) / letters) for line in words.split("\n"))

    def merged(self, row: int, first: int, last: int, text: object, style: Format) -> None:
        """A text over several columns of a row."""
        if first == last:
            self.text(row, first, text, style)
            return
        self.page.merge_range(row, first, row, last, "", style)
        self.page.write_string(row, first, cell_text(text), style)

    def title(self, text: str, note: str, last_column: int) -> None:
        """The heading in the first two rows."""
        self.text(0, 0, text, self.styles.title())
        self.page.set_row(0, 24)
        self.merged(1, 0, last_column, note, self.styles.quiet())

    def _print_setup(self, landscape: bool) -> None:
        page = self.page
        page.hide_gridlines(2)
        page.set_paper(9)  # A4
        if landscape:
            page.set_landscape()
        page.fit_to_pages(1, 0)
        page.set_margins(left=0.5, right=0.5, top=0.8, bottom=0.8)
        page.set_header("&L&10moesim: cost of a training run&R&10&A")
        page.set_footer("&R&10page &P of &N")


def finite(value: float) -> float:
    """The number; a spreadsheet has none for NaN and infinities. Raises ValueError."""
    if not math.isfinite(value):
        raise ValueError(f"{value} is no number that a cell can hold")
    return value


def _at_least(least: float, words: str) -> dict[str, Any]:
    return {
        "validate": "decimal",
        "criteria": ">=",
        "value": least,
        "input_title": "Input",
        "input_message": words[:255],
        "error_title": "Not possible here",
        "error_message": f"At least {least:,.0f}."[:255],
    }
