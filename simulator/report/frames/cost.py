"""Tables of the run: its phases, their ramps, what each assumption is worth, and what its interval is made of."""

from __future__ import annotations

import pandas as pd

from simulator.report import facts, narrowing, numbers
from simulator.report.lever_words import range_words
from simulator.results.run_result import PhaseResult, RunResult


def phases(result: RunResult) -> pd.DataFrame:
    """phase, kind, tokens, steps, step_s, wall_s, gpu_hours, cost_usd (NaN without a price): a row a phase, in order."""
    rows = [
        (each.name, each.kind, each.tokens, each.steps, each.step_s, each.wall_s, each.gpu_hours, each.cost_usd)
        for each in result.phases
    ]
    columns = ["phase", "kind", "tokens", "steps", "step_s", "wall_s", "gpu_hours", "cost_usd"]
    return pd.DataFrame(rows, columns=columns).astype({"cost_usd": "float64"})


def ramp(phase: PhaseResult) -> pd.DataFrame:
    """global_batch_size (sequences), schedule, step_s: the batch sizes that were simulated; empty without a ramp."""
    points = phase.ramp.points if phase.ramp else ()
    rows = [(point.global_batch_size, point.schedule, point.step_s) for point in points]
    return pd.DataFrame(rows, columns=["global_batch_size", "schedule", "step_s"])


def effects(result: RunResult) -> pd.DataFrame:
    """assumption, low_frac, high_frac: relative changes of the run's GPU-hours at the ends of its range, the largest first.

    Those that move nothing, as it is printed, are left out.
    """
    total = result.totals.gpu_hours.value
    moving = sorted(
        (row for row in result.assumptions if facts.moves(row, result)), key=facts.effect_size, reverse=True
    )
    rows = [
        (row.key, row.effect_on_gpu_hours.low / total, row.effect_on_gpu_hours.high / total)
        for row in moving
        if row.effect_on_gpu_hours is not None
    ]
    return pd.DataFrame(rows, columns=["assumption", "low_frac", "high_frac"])


def ranges(result: RunResult) -> pd.DataFrame:
    """what, words, at_low_frac, at_high_frac: relative changes of the run's GPU-hours with one source of uncertainty at either
    end of its range, the widest first; empty in documents that do not tell them. Those that move nothing, as it is printed,
    are left out. Older documents tell the least and the most: they stand for the low and the high end.
    """
    rows = [
        (part.what, range_words(part.what), *narrowing.at_ends(part))
        for part in narrowing.parts(result)
        if part.size >= narrowing.SMALL
    ]
    return pd.DataFrame(rows, columns=["what", "words", "at_low_frac", "at_high_frac"])


def ranges_shown(result: RunResult) -> list[tuple[str, str, str, str]]:
    """The same as texts: what it is, its change at the low and at the high end, what narrows it."""
    return [
        (row.words, numbers.signed_percent(row.at_low_frac), numbers.signed_percent(row.at_high_frac),
         narrowing.what_to_do(row.what))
        for row in ranges(result).itertuples()
    ]  # fmt: skip


def joint_interval(result: RunResult) -> tuple[float, float]:
    """Ends of the 90 % interval of the run's GPU-hours, relative to their value: low ≤ 0 ≤ high."""
    total = result.totals.gpu_hours
    return (total.low / total.value - 1.0, total.high / total.value - 1.0) if total.value else (0.0, 0.0)
