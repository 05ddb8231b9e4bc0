"""What was assumed, with range, effect and source."""

from __future__ import annotations

from typing import Final

from simulator.report import facts, numbers
from simulator.report.figures import cost as figures
from simulator.report.html.blocks import Block, Folded, Section, Table, section
from simulator.report.html.charts import chart
from simulator.report.lever_words import assumption_words
from simulator.results.run_result import RunResult
from simulator.results.step_result import AssumptionRow

HEADERS: Final = ("assumption", "what it is", "value", "range", "effect on GPU-hours", "source")
TEXT: Final = frozenset({1, 5})


def assumptions(result: RunResult, key: str) -> Section | None:
    """Those that move the GPU-hours, the strongest first; the others folded."""
    ranked = sorted(result.assumptions, key=facts.effect_size, reverse=True)
    moving = [row for row in ranked if facts.moves(row, result)]
    still = [row for row in ranked if not facts.moves(row, result)]
    blocks: list[Block] = []
    if moving:
        blocks.append(
            chart(
                f"{key}-effects", "What each assumption alone moves the GPU-hours by, at the ends of its range",
                figures.effects_alt(result), lambda mode: figures.effects(result, mode),
            )
        )  # fmt: skip
        blocks.append(_table("Assumptions that move the GPU-hours", moving, result))
    if still:
        table = _table("Assumptions that move nothing here, or whose effect was not computed", still, result)
        blocks.append(Folded(f"{len(still)} more that move nothing here, or whose effect was not computed", (table,)))
    return section(key, "Assumptions", [*blocks, *_switches(result)])


def _switches(result: RunResult) -> list[Block]:
    """Keys that the framework's release set, folded; of a scenario that names none, nothing."""
    found = [switch for switch in result.framework_switches or () if switch.is_modelled]
    if not found:
        return []
    name = f"Set by the framework's release, {result.scenario.get('framework')}"
    rows = tuple(
        (switch.key, facts.cut(numbers.by_key(switch.key, switch.value), 60), switch.source) for switch in found
    )
    return [Folded(f"{name} ({len(found)})", (Table(name, ("key", "value", "source"), rows, frozenset({2})),))]


def _table(caption: str, rows: list[AssumptionRow], result: RunResult) -> Table:
    return Table(caption, HEADERS, tuple(_cells(row, result) for row in rows), TEXT)


def _cells(row: AssumptionRow, result: RunResult) -> tuple[str, ...]:
    value = facts.cut(numbers.by_key(row.key, row.value), 60)
    return (
        row.key,
        assumption_words(row.key),
        value,
        facts.cut(facts.range_of(row), 80),
        facts.effect_of(row, result) or "not computed",
        row.source,
    )
