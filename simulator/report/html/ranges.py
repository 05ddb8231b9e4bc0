"""How sure the total is: what moves it, by how much, and what would narrow it."""

from __future__ import annotations

from typing import Final

from simulator.report import facts
from simulator.report.figures import tornado as figures
from simulator.report.frames import cost as frames
from simulator.report.html.blocks import Folded, Section, Table, Words, section
from simulator.report.html.charts import chart
from simulator.results.run_result import RunResult

HEADERS: Final = ("", "at its low end", "at its high end", "what narrows it")


def ranges(result: RunResult, key: str) -> Section | None:
    """Nothing for documents that do not tell what their interval is made of."""
    rows = tuple(frames.ranges_shown(result))
    if not rows:
        return None
    hours = result.totals.gpu_hours
    lead = (
        f"{facts.estimate(hours)} GPU-hours, 90 % interval {facts.estimate_range(hours)}: all of these drawn at once. Below, "
        "each alone at both ends of its range."
    )
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
