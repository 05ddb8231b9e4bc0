"""How cells look. A fill always comes with its own text colour, and all else keeps the program's: readable on dark too."""

from __future__ import annotations

from typing import Any, Final

import xlsxwriter
from xlsxwriter.format import Format

from simulator.report.theme import PAGES, SERIES

_PAGE: Final = PAGES["light"]
HEADER_FILL: Final = _PAGE.accent
ON_HEADER: Final = _PAGE.background
INPUT_FILL: Final = "#FFF4D6"
"""A pale tone of the theme's yellow."""
INPUT_TEXT: Final = _PAGE.accent
WARNING: Final = SERIES[1]


class Styles:
    """The formats of one workbook, each made once."""

    def __init__(self, book: xlsxwriter.Workbook) -> None:
        self._book = book
        self._made: dict[tuple[tuple[str, Any], ...], Format] = {}

    def of(self, **properties: Any) -> Format:
        """A format by xlsxwriter's names of its properties."""
        key = tuple(sorted(properties.items()))
        if key not in self._made:
            self._made[key] = self._book.add_format({"valign": "top", **properties})
        return self._made[key]

    def title(self) -> Format:
        """Of the sheet's heading."""
        return self.of(bold=True, font_size=16)

    def quiet(self, **more: Any) -> Format:
        """Of notes; wraps."""
        return self.of(text_wrap=True, italic=True, **more)

    def header(self, align: str = "center") -> Format:
        """Of column heads."""
        fill = {"bg_color": HEADER_FILL, "font_color": ON_HEADER, "border": 1, "border_color": _PAGE.line}
        return self.of(bold=True, align=align, valign="vcenter", text_wrap=True, quote_prefix=True, **fill)

    def section(self) -> Format:
        """Of a line that begins a group of rows."""
        return self.of(bold=True, bottom=1, bottom_color=_PAGE.muted)

    def label(self, bold: bool = False) -> Format:
        """Of the words before a row's figures."""
        return self.of(text_wrap=True, bold=bold, quote_prefix=True)

    def words(self, bold: bool = False) -> Format:
        """Of any text that somebody else wrote: kept as text even when the cell is edited."""
        return self.of(text_wrap=True, bold=bold, quote_prefix=True, align="left", indent=1)

    def name(self) -> Format:
        """Of a scenario's name before each of its rows: it stays on one line."""
        return self.of(quote_prefix=True, align="left", indent=1)

    def number(self, code: str, bold: bool = False) -> Format:
        """Of a figure that is computed or given."""
        return self.of(num_format=code, bold=bold, align="right")

    def input(self, code: str) -> Format:
        """Of a figure that a reader may change."""
        look = {"bg_color": INPUT_FILL, "font_color": INPUT_TEXT, "border": 1, "border_color": INPUT_TEXT}
        return self.of(num_format=code, align="right", locked=False, **look)

    def check(self) -> Format:
        """Of what a formula objects to."""
        return self.of(bold=True, font_color=WARNING, text_wrap=True)
