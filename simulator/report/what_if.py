"""What a change does to the figures that everybody asks for first, and what could be changed: as texts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from simulator.report import headline, levers, numbers
from simulator.report.comparison_text import ShownResult, shown_results
from simulator.report.headline import Figure
from simulator.report.memory_words import advice
from simulator.report.timeline_words import category_words
from simulator.results.comparison import compare
from simulator.results.memory_variants import MemoryVariants
from simulator.results.run_result import RunResult

COMPARED: Final[Mapping[str, str]] = {
    "cost": "totals.cost_usd",
    "wall_clock": "totals.wall_s",
    "memory": "memory.peak_bytes_per_gpu",
    "gpu_hours": "totals.gpu_hours",
    "step": "step.step_s",
    "throughput": "step.tokens_per_s_per_gpu",
    "mfu": "step.mfu.bf16_dense_causal",
}
"""A headline figure → the figure of a comparison that says how it changed."""
SAME: Final = "as in the baseline"


@dataclass(frozen=True, slots=True)
class Shown:
    """A figure, and how it differs from that of the baseline.

    change: "+31.9 %, worse", SAME where it does not differ, "" without a baseline. was: "was 19.1 s", "" where it does not
    differ. sign: -1, 0 or 1. is_better: None where neither is.
    """

    figure: Figure
    change: str = ""
    was: str = ""
    sign: int = 0
    is_better: bool | None = None


def beside(result: RunResult, base: RunResult | None) -> tuple[Shown, ...]:
    """The headline figures beside those of a baseline (None: alone)."""
    figures = headline.figures(result)
    if base is None:
        return tuple(Shown(figure) for figure in figures)
    changed = {row.key: row for row in shown_results(compare(base, [result]).others[0])}
    return tuple(_shown(figure, changed.get(COMPARED[figure.key])) for figure in figures)


def _shown(figure: Figure, changed: ShownResult | None) -> Shown:
    if changed is None or not changed.change:
        return Shown(figure, SAME)
    words = "" if changed.is_better is None else f", {'better' if changed.is_better else 'worse'}"
    sign = -1 if changed.change.startswith("-") else 1
    return Shown(figure, f"{changed.change}{words}", f"was {changed.before}", sign, changed.is_better)


def memory_advice(result: RunResult, variants: MemoryVariants | None = None) -> tuple[str, ...]:
    """What makes room, where the plan does not surely fit: as `memory_words.advice`."""
    return advice(result.memory, variants) if needs_room(result) else ()


def needs_room(result: RunResult) -> bool:
    """Whether the plan does not surely fit."""
    return result.memory.verdict != levers.ROOMY


def what_to_change(result: RunResult) -> tuple[str, ...]:
    """What holds the step back, the assumptions that move the run most, what the price does: a sentence each."""
    return levers.strongest(result)


def gains(result: RunResult) -> tuple[tuple[str, str, str], ...]:
    """(what binds, seconds a step that would be gained if it alone were free, why), the strongest first."""
    rows = sorted(result.step.binding, key=lambda each: (-each.seconds, each.what))
    unit, seconds = numbers.column_of_seconds([each.seconds for each in rows], result.step.step_s)
    shown = (category_words(each.what) for each in rows)
    return tuple(
        (what, f"{gain} {unit}", each.why)
        for what, gain, each in zip(shown, seconds, rows, strict=True)
        if each.seconds
    )
