"""The terminal's tornado: what moves a run's GPU-hours, the widest first, a bar from one end of its effect to the other."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Final, TextIO

from rich.console import Group, RenderableType
from rich.text import Text

from simulator.report import numbers
from simulator.report.layout import needed_width, plain_table, text
from simulator.report.lever_words import range_words
from simulator.report.narrowing import SMALL
from simulator.report.terminal import print_plainly
from simulator.results.sensitivity import Sensitivity, SensitivityRow

HALF_BAR: Final = 12
"""Columns of a bar on each side of the prediction."""
MIDDLE: Final = "│"
HEADERS: Final = ("", "range", "at low", "at high", "share", "")


def print_tornado(found: Sensitivity, file: TextIO | None = None, width: int | None = None) -> None:
    """Writes it to `file` (default: standard output), `width` columns wide (default: as many as there are)."""
    print_plainly(lambda columns: tornado(found, columns), file or sys.stdout, width)


def tornado(found: Sensitivity, width: int) -> RenderableType:
    """The table, and what it says and does not say; rows that move less than SMALL at both ends are counted, not shown."""
    total = found.total
    shown = [row for row in found.rows if max(abs(row.effect_low), abs(row.effect_high)) >= SMALL * total.value]
    title = (
        f"{numbers.quantity(total.value)} GPU-hours, 90 % interval {numbers.quantity(total.low)} to "
        f"{numbers.quantity(total.high)}: {found.draws} draws of all sources at once"
    )
    return Group(
        text(title, "bold"),
        Text(),
        _table(found, shown, width),
        Text(),
        *(text(line, "dim") for line in notes(found, shown)),
    )


def _table(found: Sensitivity, shown: list[SensitivityRow], width: int) -> RenderableType:
    longest = max((abs(effect) for row in shown for effect in (row.effect_low, row.effect_high)), default=1.0)
    cells = [(*_cells(row, found.total.value), _bar(row, longest)) for row in shown]
    if needed_width(list(zip(HEADERS, *cells, strict=True))) <= width:
        table = plain_table(*HEADERS)
        for row in cells:
            table.add_row(*map(text, row[:-1]), Text(row[-1], style="cyan"))
        return table
    lines: list[RenderableType] = []
    for name, ends, low, high, share, bar in cells:
        lines += [
            text(f"{name}: {ends}"),
            Text.assemble(text(f"  {low:>8} {high:>8} {share:>7}  "), Text(bar, style="cyan")),
        ]
    return Group(text("  at its low end, at its high end, share of the variance", "dim"), *lines)


def _cells(row: SensitivityRow, total: float) -> tuple[str, str, str, str, str]:
    ends = f"{numbers.by_key(row.key, row.low)} … {numbers.by_key(row.key, row.value)} … {numbers.by_key(row.key, row.high)}"
    low, high = (numbers.signed_percent(effect / total) for effect in (row.effect_low, row.effect_high))
    return row.key, ends, low, high, numbers.percent(row.first_order)


def _bar(row: SensitivityRow, longest: float) -> str:
    """From the least to the most that the source makes of the total; the middle is the prediction."""
    least, most = (pick(0.0, row.effect_low, row.effect_high) for pick in (min, max))
    left, right = (round(HALF_BAR * abs(end) / longest) for end in (least, most))
    return f"{'█' * left:>{HALF_BAR}}{MIDDLE}{'█' * right:<{HALF_BAR}}"


def notes(found: Sensitivity, shown: list[SensitivityRow]) -> Iterable[str]:
    """How to read it."""
    yield "at low, at high: change of the GPU-hours with this source alone at that end of its range"
    yield (
        "share: of the variance of the draws, what goes if the source were known (Sobol's first order); "
        f"no source alone has {numbers.percent(max(0.0, found.interactions))} of it"
    )
    less = len(found.rows) - len(shown)
    if less or found.still:
        yield f"{less} more move it by less than {numbers.percent(SMALL)}, {len(found.still)} not at all"
    if shown:
        yield f"largest: {range_words(shown[0].key)}"
    if found.not_modelled:
        yield (
            f"{len(found.not_modelled)} mechanisms are not modelled, each of which only adds time: none widens the interval, "
            "so a real run lies rather above the value than below (moesim run lists them)"
        )
