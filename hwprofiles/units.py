"""Units of measurement: the only file that holds powers of ten, and the only reader of text such as "400 Gb/s".

Inside moesim every number is SI: seconds, bytes, FLOP, watts, joules, hertz. `b` is bit and `B` is byte, G is 10^9 and
Gi is 2^30. A dimension is named by the suffix that a variable of it carries: "s", "bytes", "bytes_per_s", "flop",
"flop_per_s", "w", "j", "hz".
"""

from __future__ import annotations

import math
import re
from decimal import Decimal
from typing import Final, Literal, get_args

PICO: Final = 1e-12
NANO: Final = 1e-9
MICRO: Final = 1e-6
MILLI: Final = 1e-3
KILO: Final = 1e3
MEGA: Final = 1e6
GIGA: Final = 1e9
TERA: Final = 1e12
PETA: Final = 1e15
EXA: Final = 1e18
ZETTA: Final = 1e21
YOTTA: Final = 1e24

KIBI: Final = 2**10
MEBI: Final = 2**20
GIBI: Final = 2**30

BITS_PER_BYTE: Final = 8
SECONDS_PER_MINUTE: Final = 60.0
SECONDS_PER_HOUR: Final = 3600.0
SECONDS_PER_DAY: Final = 86400.0

Dimension = Literal["s", "bytes", "bytes_per_s", "flop", "flop_per_s", "w", "j", "hz"]
DIMENSIONS: Final[tuple[Dimension, ...]] = get_args(Dimension)

MAX_TEXT: Final = 64
"""Longest text that is read as a quantity, in characters."""

_DESCRIPTIONS: Final[dict[Dimension, str]] = {
    "s": 'a time such as "8 us"',
    "bytes": 'an amount of bytes such as "80 GB"',
    "bytes_per_s": 'a bandwidth such as "400 Gb/s" (bits) or "50 GB/s" (bytes)',
    "flop": 'an amount of FLOP such as "3.7 YFLOP"',
    "flop_per_s": 'a rate such as "989 TFLOP/s"',
    "w": 'a power such as "700 W"',
    "j": 'an energy such as "2 kWh"',
    "hz": 'a frequency such as "1.98 GHz"',
}

_DECIMAL: Final = {"": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18, "Z": 21, "Y": 24}
_BINARY: Final = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50}
_SUBMULTIPLE: Final = {"p": -12, "n": -9, "u": -6, "µ": -6, "μ": -6, "m": -3}


def _units() -> dict[str, tuple[Dimension, Decimal]]:
    """Every spelling of a unit → (dimension, factor to SI)."""
    ten = {prefix: Decimal(10) ** power for prefix, power in _DECIMAL.items()}
    two = {prefix: Decimal(2) ** power for prefix, power in _BINARY.items()}
    small = {prefix: Decimal(10) ** power for prefix, power in _SUBMULTIPLE.items()}
    units: dict[str, tuple[Dimension, Decimal]] = {}
    for prefix, factor in {**ten, **two}.items():
        for symbol, size in (("B", Decimal(1)), ("b", Decimal(1) / BITS_PER_BYTE), ("bit", Decimal(1) / BITS_PER_BYTE)):
            units[f"{prefix}{symbol}"] = ("bytes", factor * size)
            units[f"{prefix}{symbol}/s"] = ("bytes_per_s", factor * size)
    for prefix, factor in ten.items():
        units[f"{prefix}FLOP"] = ("flop", factor)
        units[f"{prefix}FLOP/s"] = ("flop_per_s", factor)
        units[f"{prefix}W"] = ("w", factor)
        units[f"{prefix}J"] = ("j", factor)
        units[f"{prefix}Wh"] = ("j", factor * Decimal(3600))
        units[f"{prefix}Hz"] = ("hz", factor)
    for prefix, factor in {**small, "": Decimal(1)}.items():
        units[f"{prefix}s"] = ("s", factor)
    units |= {"min": ("s", Decimal(60)), "h": ("s", Decimal(3600)), "d": ("s", Decimal(86400))}
    return units


_UNITS: Final = _units()
_QUANTITY: Final = re.compile(r"([+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?) ?([^0-9 .+-][^ ]*)?")
_MISSPELT: Final = {"flops": "FLOP/s", "flop/sec": "FLOP/s", "bps": "b/s", "sec": "s", "seconds": "s", "hours": "h"}


class UnitError(ValueError):
    """Text that is no quantity of the expected dimension; the message says what was expected."""


def parse(text: str, dimension: Dimension) -> float:
    """The quantity `text` in SI units, correctly rounded: parse("400 Gb/s", "bytes_per_s") == 50e9.

    Raises UnitError: no number, no unit, an unknown unit, or a unit of another dimension.
    """
    expected = _DESCRIPTIONS[dimension]
    if len(text) > MAX_TEXT:
        raise UnitError(f"a text of {len(text)} characters is not a quantity; expected {expected}")
    match = _QUANTITY.fullmatch(text.strip())
    if match is None:
        raise UnitError(f"{text!a} is not a number with a unit; expected {expected}")
    number, unit = match.groups()
    if unit is None:
        raise UnitError(f"{text!a} has no unit; expected {expected}")
    if unit not in _UNITS:
        raise UnitError(f"{text!a} has the unknown unit {unit!a}{_hint(unit)}; expected {expected}")
    found, factor = _UNITS[unit]
    if found != dimension:
        raise UnitError(f"{text!a} is {_DESCRIPTIONS[found].split(' such as')[0]}; expected {expected}")
    value = float(Decimal(number) * factor)
    if not math.isfinite(value):
        raise UnitError(f"{text!a} is too large for a number; expected {expected}")
    return value


def quantity(value: object, dimension: Dimension) -> object:
    """A YAML value under a key that ends in its unit: text is parsed, a bare SI number is kept as it is.

    Everything else is returned unchanged, for the schema to refuse. Raises UnitError as `parse` does.
    """
    return parse(value, dimension) if isinstance(value, str) else value


def _hint(unit: str) -> str:
    """'; did you mean …?' for a unit that differs from a known one by case or by a common habit."""
    for wrong, right in _MISSPELT.items():
        if unit.casefold().endswith(wrong):
            prefix = unit[: len(unit) - len(wrong)]
            if f"{prefix}{right}" in _UNITS:
                return f"; did you mean {prefix}{right}?"
    near = [known for known in _UNITS if known.casefold() == unit.casefold()]
    return f"; did you mean {' or '.join(near)}?" if near else ""
