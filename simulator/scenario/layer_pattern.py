"""Patterns of layers: a period of unit codes that repeats over the layers, such as `d m` or `w*5 f`."""

from __future__ import annotations

import re
from typing import Final

from simulator.scenario.section import MAX_LAYERS

_UNIT: Final = re.compile(r"\s*([a-z])(?:\s*\*\s*([0-9]{1,5}))?")


def parse_period(text: str, codes: str) -> str:
    """One period of a pattern written out, a character a layer. codes: the characters that it may hold.

    Raises ValueError: not a pattern; the message says what was expected.
    """
    period, position, stripped = "", 0, text.rstrip()
    while position < len(stripped):
        match = _UNIT.match(stripped, position)
        times = int(match[2] or 1) if match else 0
        if match is None or match[1] not in codes or not 1 <= times <= MAX_LAYERS - len(period):
            units = " and ".join(codes)
            raise ValueError(
                f"{text[:40]!r} is no pattern of {units}, such as {' '.join(codes)!r} or '{codes[0]}*3 {codes[1]}'"
            )
        period += match[1] * times
        position = match.end()
    return period


def repeated(period: str, count: int) -> str:
    """The period over `count` layers; the last one may be cut."""
    return (period * (count // len(period) + 1))[:count]
