"""What `moesim plan` says, as texts: console, dashboard and the written file each lay them out in their own way.

Numbers come from `report.numbers`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Final

from simulator.report import numbers
from simulator.report.comparison_text import NONE, largest_parts
from simulator.results.plan_table import PlanResult, PlanRow

COLUMNS: Final = ("GPUs", "fits, GB free", "step", "tokens/s/GPU", "days", "USD", "what binds", "")
NUM_PARTS: Final = 4
"""Categories by which a difference of two steps is told."""
NUM_LOSERS: Final = 5
"""Simulated layouts beside the choice that are named."""


def cells(result: PlanResult, idx: int) -> list[str]:
    """The cells of a row of the table, under COLUMNS."""
    return [*row_cells(result.rows[idx]), mark(result, idx)]


def row_cells(row: PlanRow) -> list[str]:
    """A row's own cells, without the last column's."""
    if not row.fits:
        return [f"{row.num_gpus:,}", "no", *[NONE] * 4, row.why or ""]
    return [
        f"{row.num_gpus:,}",
        "yes" if row.margin_bytes is None else f"yes, {numbers.amount_of_bytes(row.margin_bytes)}",
        NONE if row.step_s is None else numbers.step_time(row.step_s),
        NONE if row.tokens_per_s_per_gpu is None else numbers.whole(row.tokens_per_s_per_gpu),
        NONE if row.days is None else numbers.plain(row.days),
        NONE if row.cost_usd is None else numbers.usd(row.cost_usd).removesuffix(" USD"),
        row.binds or "",
    ]


def mark(result: PlanResult, idx: int) -> str:
    """What a row is beside the others: the one that is taken, one that no other beats, or nothing."""
    if idx == result.chosen:
        return "taken"
    return "front" if idx in result.front else ""


def smallest(result: PlanResult) -> str:
    """The first line: the smallest cluster, with its layout where it was planned."""
    row = next((row for row in result.rows if row.fits and row.num_gpus == result.smallest_that_fits), None)
    words = f"{result.smallest_that_fits or 0:,} GPUs are the smallest cluster that fits"
    if row is None:
        return words
    free = "" if row.margin_bytes is None else f", {numbers.amount_of_bytes(row.margin_bytes)} a GPU free"
    return f"{words}: {row.layout}{free}"


def taken(result: PlanResult) -> str:
    """The line of the size that is taken, and by which rule."""
    if result.chosen is None:
        return f"none taken, {result.rule}"
    row = result.rows[result.chosen]
    amounts = [] if row.days is None else [f"{numbers.plain(row.days)} days"]
    amounts += [] if row.cost_usd is None else [numbers.usd(row.cost_usd)]
    amounts = amounts or [f"{numbers.whole((row.tokens_per_s_per_gpu or 0.0) * row.num_gpus)} tokens/s"]
    return f"{row.num_gpus:,} GPUs: {', '.join(amounts)} ({result.rule})"


def reasons(result: PlanResult) -> list[str]:
    """Why the taken size's layout is the one: how many there were, what of them was left, and what the next ones lose by."""
    plan = result.plan
    if plan is None:
        return []
    lines = [
        f"of {plan.num_candidates:,} layouts {plan.num_legal:,} are legal, {plan.num_feasible:,} fit, "
        f"{plan.num_simulated:,} were simulated; {plan.rule}"
    ]
    losers = [each for each in plan.simulated if each.layout != plan.chosen.layout and each.loses_by]
    lines += [
        f"{each.layout}: {each.loses_by}{', within noise' if each.layout in plan.within_noise else ''}"
        for each in losers[:NUM_LOSERS]
    ]
    return lines


def given(result: PlanResult) -> list[str]:
    """The scenario's own layout beside the planned one of its size, and where the difference comes from."""
    own = result.given
    if own is None:
        return []
    row = own.row
    state = "fits" if row.fits else "does not fit"
    lines = [f"{row.layout} on {row.num_gpus:,} GPUs: {state}, step {numbers.step_time(row.step_s or 0.0)}"]
    if own.is_plan:
        return [*lines, "the plan of this size is the same layout"]
    if own.difference is None:
        return [*lines, "the plan of this size has none that fits"]
    step_s = (row.step_s or 0.0) + math.fsum(part.seconds for part in own.difference)
    change = numbers.signed_percent(step_s / (row.step_s or step_s) - 1.0)
    lines.append(f"planned: {own.planned}, step {numbers.step_time(step_s)} ({change})")
    if own.keys:
        changed = (f"{key}={json.dumps(value)}" for key, value in own.keys.items())
        lines.append(f"the plan sets {', '.join(changed)}")
    parts = [
        f"{words} {numbers.signed_seconds(seconds)}" for words, seconds in largest_parts(own.difference, NUM_PARTS)
    ]
    return [*lines, f"the planned step less this one: {', '.join(parts)}"]


def layouts(rows: Sequence[PlanRow]) -> list[tuple[str, str]]:
    """(GPUs, layout) of the sizes that have one."""
    return [(f"{row.num_gpus:,}", row.layout) for row in rows if row.layout]
