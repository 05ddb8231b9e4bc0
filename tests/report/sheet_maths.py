"""Recomputes a workbook as a spreadsheet program would: the formulas that we write, from the cells' own numbers and texts."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from decimal import ROUND_HALF_UP, Decimal
from io import BytesIO
from typing import Any

from openpyxl import load_workbook
from openpyxl.utils.cell import coordinate_to_tuple, get_column_letter
from openpyxl.workbook import Workbook

TOKEN = re.compile(
    r'\s*(?:(?P<text>"(?:[^"]|"")*")|(?P<number>\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)|'
    r"(?P<cell>(?:[A-Za-z]+!)?\$?[A-Z]+\$?\d+(?::\$?[A-Z]+\$?\d+)?)|(?P<name>[A-Z]+(?=\())|(?P<sign><=|>=|<>|[-+*/&=<>(),]))"
)


class NotAvailable(Exception):
    """The error #N/A, which goes through every formula that meets it."""


class Book:
    """A workbook that answers what a cell holds when everything is computed anew."""

    def __init__(self, content: bytes) -> None:
        self.book: Workbook = load_workbook(BytesIO(content))
        self.known: dict[tuple[str, str], Any] = {}

    def set(self, sheet: str, cell: str, value: Any) -> None:
        """Type a value into a cell."""
        self.book[sheet][cell].value = value
        self.known.clear()

    def value(self, sheet: str, cell: str) -> Any:
        """What a cell shows; None where it is empty. Raises NotAvailable."""
        place = (sheet, cell.replace("$", ""))
        if place not in self.known:
            found = self.book[sheet][place[1]]
            computed = found.data_type == "f"
            self.known[place] = _Parser(self, sheet, str(found.value)[1:]).whole() if computed else found.value
        return self.known[place]

    def formulas(self) -> list[tuple[str, str]]:
        """(sheet, cell) of all formulas."""
        return [
            (sheet.title, cell.coordinate)
            for sheet in self.book.worksheets
            for row in sheet.iter_rows()
            for cell in row
            if cell.data_type == "f"
        ]


class _Parser:
    """Formula → value, by recursive descent; comparisons bind least, then &, sums, products, signs."""

    def __init__(self, book: Book, sheet: str, formula: str) -> None:
        self.book, self.sheet = book, sheet
        self.tokens = []
        place = 0
        while place < len(formula):
            match = TOKEN.match(formula, place)
            assert match is not None, formula[place:]
            self.tokens.append((str(match.lastgroup), match[str(match.lastgroup)]))
            place = match.end()
        self.at = 0

    def whole(self) -> Any:
        value = self.comparison()
        assert self.at == len(self.tokens), self.tokens[self.at :]
        return value

    def take(self, *signs: str) -> str | None:
        if self.at < len(self.tokens) and self.tokens[self.at] in [("sign", sign) for sign in signs]:
            self.at += 1
            return self.tokens[self.at - 1][1]
        return None

    def comparison(self) -> Any:
        left = self.joined()
        while sign := self.take("<=", ">=", "<", ">", "="):
            right = self.joined()
            left = {"<=": left <= right, ">=": left >= right, "<": left < right, ">": left > right, "=": left == right}[
                sign
            ]
        return left

    def joined(self) -> Any:
        left = self.sum()
        while self.take("&"):
            left = f"{left}{self.sum()}"
        return left

    def sum(self) -> Any:
        left = self.product()
        while sign := self.take("+", "-"):
            right = self.product()
            left = left + right if sign == "+" else left - right
        return left

    def product(self) -> Any:
        left = self.atom()
        while sign := self.take("*", "/"):
            right = self.atom()
            left = left * right if sign == "*" else left / right
        return left

    def atom(self) -> Any:
        if self.take("-"):
            return -self.atom()
        if self.take("("):
            value = self.comparison()
            assert self.take(")")
            return value
        kind, text = self.tokens[self.at]
        self.at += 1
        if kind == "number":
            return float(text)
        if kind == "text":
            return text[1:-1].replace('""', '"')
        if kind == "cell":
            return self.cell(text)
        assert kind == "name", text
        return self.call(text)

    def cell(self, text: str) -> Any:
        sheet, _, place = text.rpartition("!")
        if ":" not in place:
            return self.book.value(sheet or self.sheet, place)
        (first_row, first), (last_row, last) = map(coordinate_to_tuple, place.replace("$", "").split(":"))
        cells = [
            f"{get_column_letter(column)}{row}"
            for row in range(first_row, last_row + 1)
            for column in range(first, last + 1)
        ]
        return [self.book.value(sheet or self.sheet, cell) for cell in cells]

    def call(self, name: str) -> Any:
        assert self.take("(")
        if name == "IF":
            return self.choice()
        arguments = []
        while not self.take(")"):
            arguments.append(self.comparison())
            self.take(",")
        return FUNCTIONS[name](*arguments)

    def choice(self) -> Any:
        """Only the branch that is taken is computed."""
        is_true = self.comparison()
        assert self.take(",")
        first, second = self.skip(), self.skip()
        return _Parser(self.book, self.sheet, first if is_true else second).whole()

    def skip(self) -> str:
        """The text of an argument, not computed."""
        depth, words = 0, []
        while True:
            kind, text = self.tokens[self.at]
            self.at += 1
            if kind == "sign" and depth == 0 and text in ",)":
                return "".join(words)
            depth += {"(": 1, ")": -1}.get(text, 0) if kind == "sign" else 0
            words.append(text)


def _not_available() -> Any:
    raise NotAvailable


def _rounded(value: float, decimals: float) -> float:
    return float(Decimal(repr(value)).quantize(Decimal(1).scaleb(-int(decimals)), ROUND_HALF_UP))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "ISNUMBER": _is_number,
    "ROUND": _rounded,
    "NA": _not_available,
    "AND": lambda *values: all(values),
    "N": lambda value: value if _is_number(value) else 0,
    "SUM": lambda values: math.fsum(value for value in values if _is_number(value)),
}
