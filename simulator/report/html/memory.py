"""Memory by pipeline stage."""

from __future__ import annotations

from simulator.report import facts, headline, numbers
from simulator.report.figures.memory import alt, memory_figure
from simulator.report.html.blocks import Section, Table, Words, section
from simulator.report.html.charts import chart
from simulator.results.run_result import RunResult


def memory(result: RunResult, key: str) -> Section | None:
    """The verdict, and what fills each stage."""
    used, found = result.memory, headline.memory(result)
    rows = tuple(
        (
            str(stage.pp_rank),
            *(numbers.amount_of_bytes(getattr(stage, name)) for name in facts.MEMORY_WORDS),
            numbers.amount_of_bytes(stage.peak_bytes),
            numbers.percent(stage.peak_bytes / used.usable_bytes),
        )
        for stage in used.by_stage
    )
    headers = ("rank", *facts.MEMORY_WORDS.values(), "peak", "of usable")
    verdict = (
        f"{found.value[0].upper()}{found.value[1:]}: {found.note}. With the allocator's fragments, libraries and the "
    )
    verdict += f"error of the estimate the fullest rank {found.range}."
    picture = chart(
        f"{key}-stages",
        "Memory of a GPU by pipeline rank and tensor",
        alt(used),
        lambda mode: memory_figure(used, mode),
    )
    table = Table("Memory of a GPU by pipeline rank", headers, rows)
    return section(key, "Memory by stage", [Words(verdict), picture, table])
