"""What the report says of the whole run: who and where, GPU-hours and money, what was assumed, how well founded it is.

Every section takes the result and the columns that it may fill, and gives what rich prints.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import fsum
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from simulator.report import facts, narrowing, numbers
from simulator.report.layout import bars, grid, needed_width, plain_table, shortened, text
from simulator.results.run_result import RunResult
from simulator.results.step_result import BASIS_NAMES, AssumptionRow

NUM_ASSUMPTIONS: Final = 8
MAX_VALUE_WIDTH: Final = 18
MAX_NAME_WIDTH: Final = 18
RUN_LENGTH: Final = "phases: [{name: pretrain, tokens: 1e12}]"
"""How a scenario says how long its run is."""


def heading(result: RunResult) -> RenderableType:
    """Who: model, machines, plan, stack; what a changed key dropped, and where the stack is of another kind than that of
    what the scenario came from.
    """
    lines = [
        Text.assemble(text(facts.name(result), "bold"), text(f"  {facts.model_line(result)}")),
        text(facts.machines_line(result)),
        text(f"{facts.batch_line(result)} · {facts.stack_line(result)}", "dim"),
    ]
    placed = facts.placement_line(result)
    if placed:
        lines.append(text(placed, "dim"))
    if result.dropped:
        lines.append(text(f"dropped: {', '.join(result.dropped)}", "yellow"))
    if other_kind := facts.other_kind_line(result):
        lines.append(text(other_kind, "yellow"))
    return Group(*lines)


def run(result: RunResult, width: int) -> Iterable[RenderableType]:
    """GPU-hours, money and days; of a scenario that gives no run length, those of its one step."""
    totals, steady, first = result.totals, result.steady_state, result.phases[0]
    is_one_step = len(result.phases) == 1 and first.steps <= 1
    labels = ["", "GPU-hours", "90 % interval", "wall clock"]
    total = [
        facts.estimate(totals.gpu_hours),
        facts.estimate_range(totals.gpu_hours),
        numbers.seconds(totals.wall_s.value),
    ]
    steady_wall_s = first.wall_s * steady.gpu_hours / first.gpu_hours if first.gpu_hours else 0.0
    full = [numbers.quantity(steady.gpu_hours), "", numbers.seconds(steady_wall_s)]
    if totals.cost_usd is not None and steady.cost_usd is not None:
        labels[3:3] = ["USD", "90 % interval"]
        total[2:2] = [facts.estimate(totals.cost_usd), facts.estimate_range(totals.cost_usd)]
        full[2:2] = [numbers.quantity(steady.cost_usd), ""]
    labels[0] = f"{numbers.amount(fsum(phase.tokens for phase in result.phases))} tokens"
    if is_one_step:
        yield grid(width, labels, [["one step", *total]], ["bold"])
        yield text(f"no longer run is given: write {RUN_LENGTH}", "dim")
        yield text(f"or --set '{RUN_LENGTH.replace(': ', '=', 1)}'", "dim")
    else:
        name = "" if len(result.phases) == 1 else f", {shortened(first.name, MAX_NAME_WIDTH)}"
        whole = "with the ramp" if any(phase.ramp for phase in result.phases) else "whole run"
        yield grid(width, labels, [[f"at full batch{name}", *full], [whole, *total]], ["", "bold"])
    yield from _run_notes(result)


def _run_notes(result: RunResult) -> Iterable[RenderableType]:
    per_trillion = numbers.amount(result.steady_state.gpu_hours_per_trillion_tokens)
    notes = [f"{per_trillion} GPU-hours per trillion tokens at full batch"]
    paid = result.totals.gpu_hours_paid
    if paid is not None:
        notes.append(f"{facts.estimate(paid)} GPU-hours with the idle GPUs that are paid for")
    if result.price is not None:
        sheet = facts.section(result, "prices").get("sheet")
        origin = f" (prices of {sheet})" if sheet else ""
        notes.append(f"at {numbers.usd(result.price.usd_per_gpu_hour)} per GPU-hour{origin}")
    if not result.scenario.get("reliability"):
        notes.append("no failures, checkpoints or restarts")
    yield text(" · ".join(notes), "dim")
    full = facts.whole(facts.section(result, "training"), "global_batch_size", 0)
    yield from (text(facts.ramp_note(phase, full), "dim") for phase in result.phases if phase.ramp is not None)


def assumptions(result: RunResult, width: int) -> Iterable[RenderableType]:
    """The assumptions that move the GPU-hours, strongest first; how many others there are, and how to see theirs."""
    moving = sorted(
        (row for row in result.assumptions if facts.moves(row, result)), key=facts.effect_size, reverse=True
    )
    shown = moving[:NUM_ASSUMPTIONS]
    if shown:
        yield _assumption_table([_assumption_cells(row, result) for row in shown], width)
    notes = []
    if len(moving) > len(shown):
        notes.append(f"{len(moving) - len(shown)} more move less")
    untold = [row.key for row in result.assumptions if row.effect_on_gpu_hours is None]
    if untold:
        keys = ", ".join(untold[:4]) + (", …" if len(untold) > 4 else "")
        words = "has" if len(untold) == 1 else "have"
        notes.append(f"{len(untold)} {words} no computed effect ({keys}): --set assumptions.KEY=VALUE shows it")
    still = len(result.assumptions) - len(moving) - len(untold)
    if still:
        notes.append(f"{still} {'moves' if still == 1 else 'move'} nothing here")
    if notes or shown:
        yield text(" · ".join([*notes, "all with their sources in the result document (--json)"]), "dim")


def _assumption_cells(row: AssumptionRow, result: RunResult) -> tuple[str, str, str, str]:
    """Key, value, range and effect as texts."""
    value = shortened(numbers.by_key(row.key, row.value), MAX_VALUE_WIDTH)
    return row.key, value, facts.range_of(row), facts.effect_of(row, result)


def _assumption_table(cells: Sequence[tuple[str, str, str, str]], width: int) -> Table:
    """A line each where they fit; else value and range under the key."""
    headers = ("", "value", "range", "effect on GPU-hours")
    if needed_width(list(zip(headers, *cells, strict=True))) <= width:
        table = plain_table(*headers)
        for row in cells:
            table.add_row(*map(text, row))
        return table
    table = plain_table("value (range)", headers[-1])
    for key, value, ends, effect in cells:
        table.add_row(text(key), text(effect))
        table.add_row(text(f"  {value}{f' ({ends})' if ends else ''}", "dim"), "")
    return table


def things(result: RunResult, width: int) -> Iterable[RenderableType]:
    """What would change the answer most, which way, and what to do or to measure."""
    yield from (text(f"{place}. {words}") for place, words in enumerate(narrowing.things(result), start=1))


def basis(result: RunResult, width: int) -> Iterable[RenderableType]:
    """Shares of the time by where it comes from."""
    shares = {name: getattr(result.basis, name) for name in BASIS_NAMES if getattr(result.basis, name) > 0}
    percents = [numbers.percent(share) for share in shares.values()]
    words = [facts.BASIS_WORDS[name] for name in shares]
    table = plain_table("", "", "", "")
    table.columns[2].justify = table.columns[3].justify = "left"
    taken = needed_width([list(shares), percents, words, ("",)])
    for name, percent, word, bar in zip(
        shares, percents, words, bars(list(shares.values()), width - taken), strict=True
    ):
        table.add_row(name, percent, text(word, "dim"), bar)
    yield table


def not_modelled(result: RunResult, width: int) -> Iterable[RenderableType]:
    """What a real run has and this result has not."""
    if not result.not_modelled:
        return
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column()
    for each in result.not_modelled:
        table.add_row("-", text(each))
    yield table
