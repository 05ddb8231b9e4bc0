"""What the step's collectives take alone, in the units in which people compare theirs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from rich.console import RenderableType

from simulator.report import numbers
from simulator.report.layout import needed_width, plain_table, shortened, text
from simulator.results.run_result import RunResult
from simulator.results.step_result import CollectiveTime

NUM_COLLECTIVES: Final = 8
HEADERS: Final = ("", "GPUs", "nodes", "bytes", "alone", "GB/s", "limit", "known")
OPTIONAL: Final = ("known", "nodes", "limit", "GPUs")
"""Columns that are left out where the terminal is narrow, the first first."""
MAX_NAME_WIDTH: Final = 32
LEAST_RATE: Final = 0.01
"""In GB/s: a message of one number has no rate that says anything."""


def collectives(result: RunResult, width: int) -> Iterable[RenderableType]:
    """Of each name the longest, the longest names first; how each rate is counted."""
    found = longest_by_name(result.step.collectives)
    rows = found[:NUM_COLLECTIVES]
    if not rows:
        return
    cells = [_cells(row) for row in rows]
    headers = list(HEADERS)
    for column in OPTIONAL:
        if needed_width(list(zip(headers, *cells, strict=True))) > width:
            place = headers.index(column)
            headers.pop(place)
            cells = [[cell for i, cell in enumerate(row) if i != place] for row in cells]
    table = plain_table(*headers)
    for row in cells:
        table.add_row(*map(text, row))
    yield table
    counted = dict.fromkeys(row.counted_as for row in rows)
    more = f" · {len(found) - len(rows)} shorter ones with --json" if len(found) > len(rows) else ""
    yield text(f"of each name the longest of the step · alone: on links that nothing else uses{more}", "dim")
    yield text("GB/s as they are compared: " + " · ".join(counted), "dim")


def longest_by_name(rows: Sequence[CollectiveTime]) -> list[CollectiveTime]:
    """The longest of each name, in descending seconds; of equals the first."""
    found: dict[str, CollectiveTime] = {}
    for row in rows:
        if row.name not in found or row.seconds > found[row.name].seconds:
            found[row.name] = row
    return sorted(found.values(), key=lambda row: -row.seconds)


def _cells(row: CollectiveTime) -> list[str]:
    return [
        shortened(row.name.replace("_", " ").replace(".", ", "), MAX_NAME_WIDTH),
        f"{row.ranks:,}",
        f"{row.nodes:,}",
        numbers.amount_of_bytes(row.bytes),
        numbers.seconds(row.seconds),
        numbers.plain(row.gb_per_s) if row.gb_per_s >= LEAST_RATE else "-",
        row.limit.replace("_", "-"),
        row.basis,
    ]
