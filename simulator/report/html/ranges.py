"""How sure the total is: what moves it, by how much, and what would narrow it."""

from __future__ import annotations

from typing import Final

from simulator.report import facts, narrowing, numbers
from simulator.report.figures import tornado as figures
from simulator.report.frames import cost as frames
from simulator.report.html.blocks import Folded, Section, Table, Words, section
from simulator.report.html.charts import chart
from simulator.results.run_result import RunResult

HEADERS: Final = ("", "at its low end", "at its high end", "what narrows it")


def ranges(result: RunResult, key: str) -> Section | None:
    """Nothing for documents that do not tell what their interval is made of."""
    found = frames.ranges(result)
    if found.empty:
        return None
    hours = result.totals.gpu_hours
    lead = (
        f"{facts.estimate(hours)} GPU-hours, 90 % interval {facts.estimate_range(hours)}: all of these drawn at once. Below, "
        "each alone at both ends of its range."
    )
    rows = tuple(
        (row.words, numbers.signed_percent(row.at_low_frac), numbers.signed_percent(row.at_high_frac),
         narrowing.what_to_do(row.what))
        for row in found.itertuples()
    )  # fmt: skip
    table = Table("What moves the GPU-hours", HEADERS, rows, frozenset({3}))
    return section(
        key,
        "How sure, and what would change it",
        [
            Words(lead),
            chart(f"{key}-tornado", "Change of the GPU-hours, all at once and one by one", figures.tornado_alt(result),
                  lambda mode: figures.tornado(result, mode)),
            Folded(f"{len(rows)} sources of uncertainty, and what narrows each", (table,)),
        ],
    )  # fmt: skip
