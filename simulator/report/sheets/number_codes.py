"""Number formats of spreadsheet cells: as many digits as the uncertainty bears, while the cell keeps the whole number."""

from __future__ import annotations

from typing import Final

from simulator.report import numbers

WHOLE: Final = "#,##0"
PERCENT: Final = "0.0%"
SIGNED_PERCENT: Final = "+0.0%;-0.0%;0.0%"
PRICE: Final = "#,##0.00##"
TEXT: Final = "@"


def plain(value: float, uncertainty: float | None = None, least: int = 0) -> str:
    """Of a number that is shown in its own unit. least: decimals that it has at least."""
    return _decimals(max(numbers.decimals_for(value, uncertainty), least))


def amount(value: float, uncertainty: float | None = None) -> str:
    """Of tokens, GPU-hours or money: "5.49 M"; one unit smaller, then without fraction, where the number becomes less."""
    tiers = [(size, letter) for size, letter in numbers.AMOUNTS if size <= max(abs(value), 1.0)]
    (size, letter), *smaller = tiers
    decimals = numbers.decimals_for(value / size, uncertainty / size if uncertainty else None)
    if not smaller:
        return _decimals(decimals)
    first = f"[>={size:.0f}]{_scaled(decimals, size, letter)}"
    if len(smaller) == 1:
        return f"{first};{WHOLE}"
    below, its_letter = smaller[0]
    return f"{first};[>={below:.0f}]{_scaled(0, below, its_letter)};{WHOLE}"


def difference(value: float, uncertainty: float | None = None) -> str:
    """Of a difference of two such amounts, with its sign."""
    size, letter = next((pair for pair in numbers.AMOUNTS if pair[0] <= max(abs(value), 1.0)), (1.0, ""))
    decimals = numbers.decimals_for(value / size, uncertainty / size if uncertainty else None)
    code = _scaled(decimals, size, letter)
    return f"+{code};-{code};0"


def signed(value: float, uncertainty: float | None = None, least: int = 0) -> str:
    """Of a difference in its own unit, with its sign."""
    code = plain(value, uncertainty, least)
    return f"+{code};-{code};0"


def _decimals(decimals: int) -> str:
    return f"#,##0.{'0' * decimals}" if decimals else WHOLE


def _scaled(decimals: int, size: float, letter: str) -> str:
    """A code that divides by `size`, a power of 1000: a comma for each."""
    commas = "," * round((len(f"{size:.0f}") - 1) / 3)
    return f'{_decimals(decimals)}{commas}" {letter}"' if letter else _decimals(decimals)
